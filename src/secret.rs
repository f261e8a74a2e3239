//! Masks secrets in whatever is shown or recorded about a run. Answers and input columns are data and are not masked.

mod forms;

use std::borrow::Cow;
use std::ffi::OsString;
use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::environment;

/// Replaces a secret.
const MASK: &str = "***";
/// The shortest value that is masked, in bytes. Shorter ones are words like `true`: masking them would garble messages.
const SHORTEST: usize = 6;
const SUFFIXES: [&str; 4] = ["_KEY", "_TOKEN", "_SECRET", "_PASSWORD"];

/// The secrets of one job.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    values: Vec<String>,
    /// Made when they are first needed.
    forms: OnceLock<Forms>,
}

/// All forms of all secrets.
#[derive(Debug, Clone)]
struct Forms {
    texts: Vec<String>,
    /// None if there are no secrets, or more than the automaton can hold.
    finder: Option<AhoCorasick>,
}

impl Secrets {
    /// The values of all environment variables whose names end in `_KEY`, `_TOKEN`, `_SECRET` or `_PASSWORD`.
    pub fn from_environment() -> Self {
        let mut secrets = Self::default();
        secrets.add_environment();
        secrets
    }

    /// Adds those that have come into the environment since: a predictor's file may have read them from another file.
    pub fn add_environment(&mut self) {
        self.add_variables(environment::variables());
    }

    /// Adds those among the values of these variables.
    pub(crate) fn add_variables(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let name = name.to_string_lossy().to_uppercase();
            if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                self.add(&value.to_string_lossy());
            }
        }
    }

    /// Adds one value. Blank and very short ones are ignored.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.len() >= SHORTEST {
            self.insert(value.to_owned());
        }
    }

    /// Adds the value of an option. A very short value is masked only after the name of its option.
    pub fn add_named(&mut self, name: &str, value: &str) {
        let value = value.trim();
        if (1..SHORTEST).contains(&value.len()) {
            for [before, between, after] in
                [["", "=", ""], ["", "='", "'"], ["'", "': '", "'"], ["\"", "\": \"", "\""]]
            {
                self.insert(format!("{before}{name}{between}{value}{after}"));
            }
        } else {
            self.add(value);
        }
    }

    /// Adds all secrets of another set.
    pub fn extend(&mut self, other: &Self) {
        other.values.iter().for_each(|value| self.insert(value.clone()));
    }

    /// The values, which [`Self::of`] takes again in another process.
    pub(crate) fn values(&self) -> &[String] {
        &self.values
    }

    /// The secrets with these values.
    pub(crate) fn of(values: Vec<String>) -> Self {
        Self { values, forms: OnceLock::new() }
    }

    /// Makes ready what masking needs, which is done at its first use otherwise.
    pub fn prepare(&self) {
        self.forms();
    }

    fn insert(&mut self, text: String) {
        if !self.values.contains(&text) {
            self.values.push(text);
            self.forms = OnceLock::new();
        }
    }

    /// Adds the password, or the lone user name, of a URL such as `https://user:password@host/`.
    pub fn add_url(&mut self, url: &str) {
        if let Some(credentials) = credentials(url) {
            self.add(credentials.split_once(':').map_or(credentials, |(_, password)| password));
        }
    }

    fn forms(&self) -> &Forms {
        self.forms.get_or_init(|| {
            let texts: Vec<_> = self.values.iter().flat_map(|value| forms::of(value)).collect();
            let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&texts);
            Forms { finder: finder.ok().filter(|_| !texts.is_empty()), texts }
        })
    }

    /// The text with every secret, in any of its forms, and every password in a URL, replaced by `***`.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let masked = mask_urls(text);
        match &self.forms().finder {
            Some(finder) if finder.is_match(&*masked) => {
                let mut whole = String::with_capacity(masked.len());
                finder.replace_all_with(&masked, &mut whole, |_, _, whole| {
                    *whole += MASK;
                    true
                });
                Cow::Owned(whole)
            }
            _ => masked,
        }
    }

    /// Masks bytes of a stream, passwords in URLs aside. Returns what can be shown now, and the rest, which may be the
    /// beginning of a secret and is to be given again with what comes next.
    pub fn mask_stream<'a>(&self, bytes: &'a [u8]) -> (Cow<'a, [u8]>, &'a [u8]) {
        let forms = self.forms();
        let Some(finder) = &forms.finder else { return (Cow::Borrowed(bytes), &[]) };
        let mut end =
            bytes.len() - forms.texts.iter().map(|form| begun(form.as_bytes(), bytes)).max().unwrap_or(0);
        // Do not cut a secret in two in which another may begin.
        for found in finder.find_iter(bytes) {
            if found.start() < end && found.end() > end {
                end = found.start();
            }
        }
        let (shown, rest) = bytes.split_at(end);
        (self.mask_bytes(shown), rest)
    }

    /// Bytes with every secret replaced.
    pub fn mask_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.forms().finder {
            Some(finder) if finder.is_match(bytes) => {
                let mut whole = Vec::with_capacity(bytes.len());
                finder.replace_all_with_bytes(bytes, &mut whole, |_, _, whole| {
                    whole.extend_from_slice(MASK.as_bytes());
                    true
                });
                Cow::Owned(whole)
            }
            _ => Cow::Borrowed(bytes),
        }
    }
}

/// The number of bytes at the end that are the incomplete beginning of the form.
fn begun(form: &[u8], bytes: &[u8]) -> usize {
    let longest = (form.len() - 1).min(bytes.len());
    (1..=longest).rev().find(|length| bytes.ends_with(&form[..*length])).unwrap_or(0)
}

/// The text with `scheme://user:password@` as `scheme://user:***@`.
fn mask_urls(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked += before;
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'<>".contains(c)).unwrap_or(after.len());
        let password = after[..end].rfind('@').and_then(|at| Some((after[..at].find(':')?, at)));
        rest = match password {
            Some((colon, at)) => {
                masked += &after[..=colon];
                masked += MASK;
                &after[at..]
            }
            None => after,
        };
    }
    if masked.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(masked + rest) }
}

/// The part of a URL before the `@` of its host.
fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@').map(|(credentials, _)| credentials)
}

/// The URL with [`MASK`] in place of its user name and password.
pub(crate) fn without_credentials(url: &str) -> String {
    credentials(url).map_or(url.to_owned(), |credentials| {
        url.replacen(&format!("{credentials}@"), &format!("{MASK}@"), 1)
    })
}

/// Whether [`without_credentials`] took the user name and password out of the URL.
pub(crate) fn lacks_credentials(url: &str) -> bool {
    credentials(url) == Some(MASK)
}

#[cfg(test)]
mod tests {
    use base64::Engine;

    use super::*;

    #[test]
    fn the_longer_of_two_nested_secrets_is_masked_whole() {
        let mut secrets = Secrets::default();
        secrets.add("sk-abc");
        secrets.add("sk-abcdef");
        assert_eq!(secrets.mask("key sk-abcdef and sk-abc"), "key *** and ***");
    }

    #[test]
    fn a_secret_is_masked_in_every_form_it_takes() {
        let key = "sk/pl+an'ted \"ké\\y=";
        let mut secrets = Secrets::default();
        secrets.add(key);
        let forms = [
            key,
            "sk/pl+an\\'ted \"ké\\\\y=",
            "sk/pl+an'ted \\\"ké\\\\y=",
            "sk/pl+an'ted \\\"k\\u00e9\\\\y=",
            "sk\\/pl+an'ted \\\"k\\u00e9\\\\y=",
            "sk%2Fpl%2Ban%27ted%20%22k%C3%A9%5Cy%3D",
            "sk/pl%2Ban%27ted%20%22k%C3%A9%5Cy%3D",
            "sk%2fpl%2ban%27ted+%22k%c3%a9%5cy%3d".replace('+', "%20").leak(),
            "sk%2Fpl%2Ban%27ted+%22k%C3%A9%5Cy%3D",
        ];
        for form in forms {
            assert_eq!(secrets.mask(&format!("<{form}>")), "<***>", "{form}");
        }
        for user in ["", "a:", "an:", "ann:"] {
            let header = base64::prelude::BASE64_STANDARD.encode(format!("{user}{key}"));
            let masked = secrets.mask(&header).into_owned();
            assert!(masked.contains("***") && masked.len() < 16, "{user}: {header} {masked}");
        }
    }

    /// What a reader sees of these writes, and of what is held back at the end.
    fn streamed(secrets: &Secrets, writes: &[&str]) -> String {
        let (mut shown, mut held) = (Vec::new(), Vec::new());
        for write in writes {
            held.extend_from_slice(write.as_bytes());
            let (now, rest) = secrets.mask_stream(&held);
            shown.extend_from_slice(&now);
            held = rest.to_vec();
        }
        shown.extend_from_slice(&secrets.mask_bytes(&held));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_split_over_writes_is_masked_and_nothing_else_lost() {
        let mut secrets = Secrets::default();
        secrets.add("sk-abc");
        secrets.add("sk-abcdef");
        secrets.add("xyz-sk");
        let text = "ask sk-abcdef, sk-abc, xyz-sk-abc; sk- and s";
        let whole = "ask ***, ***, ***-abc; sk- and s";
        assert_eq!(streamed(&secrets, &[text]), whole);
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let writes = [&text[..cut], &text[cut..second], &text[second..]];
                assert_eq!(streamed(&secrets, &writes), whole, "{writes:?}");
            }
        }
        assert_eq!(secrets.mask_stream(b"a line\n").1, b"", "a line that has ended is not held back");
    }

    #[test]
    fn short_values_and_text_without_secrets_stay() {
        let mut secrets = Secrets::default();
        secrets.add("true");
        assert!(matches!(secrets.mask("it is true"), Cow::Borrowed("it is true")));
    }

    #[test]
    fn the_password_of_a_url_is_a_secret() {
        let mut secrets = Secrets::default();
        secrets.add_url("https://ann:hunter22@example.org:8080/v1?a=b@c");
        assert_eq!(
            secrets.mask("POST https://ann:hunter22@example.org:8080/v1"),
            "POST https://ann:***@example.org:8080/v1"
        );
    }

    #[test]
    fn any_password_in_a_url_is_masked() {
        let text = "connect to postgres://bob:pw@db/x, 'http://h:80/a@b' and ftp://ann@h: no";
        let masked = "connect to postgres://bob:***@db/x, 'http://h:80/a@b' and ftp://ann@h: no";
        assert_eq!(Secrets::default().mask(text), masked);
    }

    #[test]
    fn a_url_is_written_down_without_its_credentials() {
        assert_eq!(
            without_credentials("https://ann:pw@example.org/v1?a=b@c"),
            "https://***@example.org/v1?a=b@c"
        );
        assert!(lacks_credentials("https://***@example.org/v1?a=b@c"));
        assert!(
            !lacks_credentials("https://ann:***@example.org/v1")
                && !lacks_credentials("https://example.org/")
        );
        assert_eq!(without_credentials("http://127.0.0.1:8080/v1"), "http://127.0.0.1:8080/v1");
    }
}
