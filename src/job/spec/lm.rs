//! The arguments of the language model, some of which are secrets.

use std::fmt;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

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
    /// The value, unless it is that of a secret.
    fn plain_value(&self) -> Option<&str> {
        self.value.as_deref().filter(|_| !is_key(&self.name))
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
        self.given().filter(|(name, _)| !is_key(name))
    }

    /// The secrets that have a value, as names and values.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given().filter(|(name, _)| is_key(name))
    }

    /// The name of a secret that an earlier session was given and this one was not.
    pub fn missing(&self) -> Option<&str> {
        let missing = self.0.iter().find(|argument| argument.value.is_none());
        missing.map(|argument| &*argument.name)
    }

    /// Replaces arguments: a secret replaces the one of the same name, and other arguments replace all that are no
    /// secrets.
    pub(super) fn lay(&mut self, pairs: Vec<(String, String)>) {
        if pairs.iter().any(|(name, _)| !is_key(name)) {
            self.0.retain(|argument| is_key(&argument.name));
        }
        self.0.retain(|argument| !pairs.iter().any(|(name, _)| *name == argument.name));
        let given = pairs.into_iter().map(|(name, value)| Argument { name, value: Some(value) });
        self.0.extend(given);
    }

    /// Adds a secret that has a name and no value.
    pub(super) fn expect(&mut self, name: String) {
        self.0.retain(|argument| argument.name != name);
        self.0.push(Argument { name, value: None });
    }
}

/// Whether an argument of the language model is a secret, judging by its name: `azure_ad_token` is one, `max_tokens` is
/// not.
pub fn is_key(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with("token") || ["key", "secret", "password"].iter().any(|word| name.contains(word))
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
