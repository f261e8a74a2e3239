//! Masks secrets in whatever is shown or recorded about a run. Answers and input columns are data and pass unmasked.

use std::borrow::Cow;

/// What stands in place of a secret.
const MASK: &str = "***";
/// Shorter values are words like `true`; masking them would garble every message.
const SHORTEST: usize = 6;
const SUFFIXES: [&str; 4] = ["_KEY", "_TOKEN", "_SECRET", "_PASSWORD"];

/// The secrets of this process, longest first.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The values of all environment variables whose names end in `_KEY`, `_TOKEN`, `_SECRET` or `_PASSWORD`.
    pub fn from_environment() -> Self {
        let mut secrets = Self::default();
        secrets.add_environment();
        secrets
    }

    /// Adds those that have come since: a predictor's file may have read them from another.
    pub fn add_environment(&mut self) {
        for (name, value) in std::env::vars_os() {
            let name = name.to_string_lossy().to_uppercase();
            if SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                self.add(&value.to_string_lossy());
            }
        }
    }

    /// All of them.
    pub fn values(&self) -> &[String] {
        &self.0
    }

    /// Adds one value; blank and very short ones are passed over.
    pub fn add(&mut self, value: &str) {
        let value = value.trim();
        if value.len() >= SHORTEST && !self.0.iter().any(|known| known == value) {
            self.0.push(value.to_owned());
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    /// Adds the password, or the lone user name, of a URL such as `https://user:password@host/`.
    pub fn add_url(&mut self, url: &str) {
        if let Some(credentials) = credentials(url) {
            self.add(credentials.split_once(':').map_or(credentials, |(_, password)| password));
        }
    }

    /// The text with every secret, and every password in a URL, replaced by `***`.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = mask_urls(text);
        for secret in &self.0 {
            if masked.contains(secret.as_str()) {
                masked = Cow::Owned(masked.replace(secret.as_str(), MASK));
            }
        }
        masked
    }
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

/// What stands before the `@` of a URL's host.
fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@').map(|(credentials, _)| credentials)
}

/// The URL without its user name and password.
pub fn without_credentials(url: &str) -> String {
    credentials(url).map_or(url.to_owned(), |credentials| url.replacen(&format!("{credentials}@"), "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_nested_secrets_is_masked_whole() {
        let mut secrets = Secrets::default();
        secrets.add("sk-abc");
        secrets.add("sk-abcdef");
        assert_eq!(secrets.mask("key sk-abcdef and sk-abc"), "key *** and ***");
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
            "https://example.org/v1?a=b@c"
        );
        assert_eq!(without_credentials("http://127.0.0.1:8080/v1"), "http://127.0.0.1:8080/v1");
    }
}
