//! The arguments of the language model, some of which are secrets.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::secret::{lacks_credentials, without_credentials};

/// Arguments of the language model, in the order given. The values of secrets belong to one session: they are
/// neither serialized nor shown, and a secret that was read back has no value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LmArguments(Vec<Argument>);

#[derive(Clone, PartialEq, Eq, Deserialize)]
struct Argument {
    name: String,
    /// `None` for a secret that this session was not given.
    value: Option<String>,
}

impl Argument {
    fn is_secret(&self) -> bool {
        self.value.as_deref().is_none_or(|value| !secrets_in(&self.name, value).is_empty())
    }

    /// The value, unless it is a secret or has one in it.
    fn plain_value(&self) -> Option<&str> {
        self.value.as_deref().filter(|_| !self.is_secret())
    }
}

impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.plain_value();
        f.debug_struct("Argument").field("name", &self.name).field("value", &value).finish()
    }
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Argument", 2)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("value", &self.plain_value())?;
        fields.end()
    }
}

impl LmArguments {
    /// All arguments that have a value, including secrets, as names and values.
    pub fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|argument| Some((&*argument.name, argument.value.as_deref()?)))
    }

    /// The arguments that are no secrets, as names and values.
    pub fn plain(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|argument| Some((&*argument.name, argument.plain_value()?)))
    }

    /// The secrets that have a value, and those within a value, as names and values.
    pub fn secrets(&self) -> impl Iterator<Item = (String, String)> {
        self.given().flat_map(|(name, value)| secrets_in(name, value))
    }

    /// The name of a secret that an earlier session was given and this one was not.
    pub fn missing(&self) -> Option<&str> {
        let missing = self.0.iter().find(|argument| argument.value.is_none());
        missing.map(|argument| &*argument.name)
    }

    /// Replaces arguments: a secret replaces the one of the same name, and other arguments replace all that are no
    /// secrets.
    pub(super) fn lay(&mut self, pairs: Vec<(String, String)>) {
        let given = pairs.into_iter().map(|(name, value)| Argument { name, value: Some(value) });
        let given: Vec<_> = given.collect();
        if given.iter().any(|argument| !argument.is_secret()) {
            self.0.retain(Argument::is_secret);
        }
        self.0.retain(|argument| !given.iter().any(|given| given.name == argument.name));
        self.0.extend(given);
    }

    /// Adds a secret that has a name and no value.
    pub(super) fn expect(&mut self, name: String) {
        self.0.retain(|argument| argument.name != name);
        self.0.push(Argument { name, value: None });
    }
}

/// What the names of secrets contain.
const OF_SECRETS: [&str; 9] =
    ["key", "secret", "password", "passwd", "passphrase", "credential", "auth", "bearer", "cookie"];

/// Whether an argument of the language model is a secret, judging by its name: `azure_ad_token` is one, `max_tokens` is
/// not. Headers are secrets all of them, for each service gives its own a name.
fn is_key(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower.ends_with("token") || are_headers(name) || OF_SECRETS.iter().any(|word| lower.contains(word))
}

fn are_headers(name: &str) -> bool {
    name.to_lowercase().contains("header")
}

/// The secrets in an argument, as names and values: its value, and the texts in it that JSON gives such a name.
fn secrets_in(name: &str, value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if is_key(name) {
        found.push((name.to_owned(), value.to_owned()));
    }
    if let Ok(json) = serde_json::from_str(value) {
        add_texts(name, &json, false, &mut found);
    }
    found
}

fn add_texts(name: &str, value: &Value, in_headers: bool, found: &mut Vec<(String, String)>) {
    let in_headers = in_headers || are_headers(name);
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| add_texts(name, value, in_headers, found));
        }
        Value::Array(items) => items.iter().for_each(|item| add_texts(name, item, in_headers, found)),
        Value::String(text) if in_headers || is_key(name) => {
            // What follows `Bearer` or `Basic` is the key itself.
            let after = text.split_once(' ').map(|(_, after)| after);
            found.extend(
                [Some(&**text), after].into_iter().flatten().map(|text| (name.to_owned(), text.to_owned())),
            );
        }
        _ => {}
    }
}

/// The URL of a model's API. Credentials in it belong to one session and are neither serialized nor shown; a URL that
/// was read back tells that it had some.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ApiBase(pub String);

impl fmt::Debug for ApiBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        without_credentials(&self.0).fmt(f)
    }
}

impl Serialize for ApiBase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        without_credentials(&self.0).serialize(serializer)
    }
}

impl ApiBase {
    /// Whether an earlier session was given credentials and this one was not.
    pub fn is_incomplete(&self) -> bool {
        lacks_credentials(&self.0)
    }
}

impl From<String> for ApiBase {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl std::ops::Deref for ApiBase {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_secret_is_kept_by_its_name_and_its_value_is_asked_for_again() {
        let mut lm = LmArguments::default();
        lm.lay(arguments(&[("temperature", "0.5"), ("api_key", "sk-1")]));
        let text = serde_json::to_string(&lm).unwrap();
        assert_eq!(text, r#"[{"name":"temperature","value":"0.5"},{"name":"api_key","value":null}]"#);
        let mut read: LmArguments = serde_json::from_str(&text).unwrap();
        assert_eq!(read.missing(), Some("api_key"));
        read.lay(arguments(&[("api_key", "sk-2")]));
        assert_eq!(read.missing(), None);
        assert_eq!(read.given().collect::<Vec<_>>(), [("temperature", "0.5"), ("api_key", "sk-2")]);
    }

    #[test]
    fn what_is_secret_is_known_by_a_name_also_within_a_value() {
        let headers = r#"{"Authorization": "Bearer sk-1", "X-Trace": "t-1"}"#;
        let body = r#"{"user": "ann", "options": [{"apiKey": "sk-2", "key": {"type": "string"}}]}"#;
        let schema = r#"{"properties": {"key": {"type": "string"}}, "required": ["key"]}"#;
        let mut lm = LmArguments::default();
        let given = [
            ("extra_headers", headers),
            ("extra_body", body),
            ("vertex_credentials", "{}"),
            ("max_tokens", "9"),
            ("response_format", schema),
        ];
        lm.lay(arguments(&given));
        let plain: Vec<_> = lm.plain().map(|(name, _)| name).collect();
        assert_eq!(plain, ["max_tokens", "response_format"]);
        let secrets: Vec<_> = lm.secrets().map(|(_, value)| value).collect();
        assert_eq!(secrets, [headers, "Bearer sk-1", "sk-1", "t-1", "sk-2", "{}"]);
        let text = serde_json::to_string(&lm).unwrap();
        assert!(!text.contains("sk-") && !format!("{lm:?}").contains("sk-"), "{text}");
        // A value that is unknown is that of a secret, whatever its name.
        let mut read: LmArguments = serde_json::from_str(&text).unwrap();
        read.lay(arguments(&[("max_tokens", "5")]));
        assert_eq!(read.missing(), Some("extra_headers"));
        assert_eq!(read.0.len(), 4);
    }

    #[test]
    fn arguments_replace_those_before_and_leave_the_secrets() {
        let mut lm = LmArguments::default();
        lm.lay(arguments(&[("temperature", "0.5"), ("top_p", "1"), ("api_key", "sk-1")]));
        lm.lay(arguments(&[("temperature", "0")]));
        assert_eq!(lm.given().collect::<Vec<_>>(), [("api_key", "sk-1"), ("temperature", "0")]);
    }

    #[test]
    fn credentials_of_an_address_are_not_written_down_and_are_asked_for_again() {
        let url = ApiBase("http://ada:lovelace@host/v1".to_owned());
        let text = serde_json::to_string(&url).unwrap();
        assert_eq!(text, r#""http://***@host/v1""#);
        let read: ApiBase = serde_json::from_str(&text).unwrap();
        assert!(read.is_incomplete() && !url.is_incomplete());
    }
}
