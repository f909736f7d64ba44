//! Secrets within a keeper: never in a file of its own, only in its memory and where its program finds them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sheaf_model::{FileName, Piece, SecretName};

/// What stands in an environment or a file and has secrets in it. Of a plan, so without their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confidential {
    /// Where.
    pub place: Confided,
    /// Texts, and secrets between them.
    pub pieces: Vec<Piece>,
}

/// Where something confidential stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confided {
    /// In this variable of the environment.
    Env(String),
    /// In this file of the instance's directory.
    File(FileName),
}

impl Confidential {
    /// The text with its secrets; the error names one that is not there.
    pub(crate) fn reveal(&self, opened: &Opened) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Secret(name) => {
                    let value = opened.0.get(name);
                    text.push_str(value.ok_or_else(|| format!("secret {name} was not given to its keeper"))?);
                }
            }
        }
        Ok(text)
    }
}

/// Secrets by name, plain. Its JSON form goes over a keeper's own socket and nowhere else.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opened(BTreeMap<SecretName, String>);

impl Opened {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn has(&self, name: &SecretName) -> bool {
        self.0.contains_key(name)
    }

    /// Puts these to those that are there.
    pub(crate) fn take(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    pub(crate) fn put(&mut self, name: SecretName, value: String) {
        self.0.insert(name, value);
    }
}

/// The names alone.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys().map(SecretName::as_str)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_says_its_names_alone_and_is_filled_in_where_it_stands() {
        let name = SecretName::new("token").unwrap();
        let mut opened = Opened::default();
        let pieces = vec![Piece::Text("key=".to_owned()), Piece::Secret(name.clone())];
        let line = Confidential { place: Confided::Env("KEY".to_owned()), pieces };
        assert_eq!(line.reveal(&opened), Err("secret token was not given to its keeper".to_owned()));
        opened.put(name, "hunter2".to_owned());
        assert_eq!(line.reveal(&opened).as_deref(), Ok("key=hunter2"));
        assert_eq!(format!("{opened:?}"), r#"{"token"}"#);
    }
}
