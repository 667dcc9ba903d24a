//! The forms that names have in the section `[permissions]`.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::glob::Glob;

/// Which actions of a kind may run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listed {
    /// None of them.
    #[default]
    None,
    /// All of them.
    All,
    /// Those that a pattern matches.
    Some(Vec<Glob>),
}

impl Listed {
    /// Whether an action is among them.
    #[must_use]
    pub fn names(&self, action: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(globs) => globs.iter().any(|glob| glob.matches(action)),
        }
    }

    /// The patterns, where there are some.
    #[must_use]
    pub fn globs(&self) -> &[Glob] {
        match self {
            Self::None | Self::All => &[],
            Self::Some(globs) => globs,
        }
    }
}

impl Serialize for Listed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str("none"),
            Self::All => serializer.serialize_str("all"),
            Self::Some(globs) => globs.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(TextOrList)? {
            Found::List(globs) => Ok(Self::Some(globs)),
            Found::Text(text) => match text.as_str() {
                "none" => Ok(Self::None),
                "all" => Ok(Self::All),
                _ => Err(D::Error::custom(format!(
                    "{text:?} is neither \"all\" nor \"none\" nor a list such as [\"ServiceControl\"]"
                ))),
            },
        }
    }
}

/// A condition on a name: one pattern or a list of them. Without any there is no condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Patterns(Vec<Glob>);

impl Patterns {
    /// No condition.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether there is no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a name fits one of the patterns.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|glob| glob.matches(name))
    }

    /// Whether every name fits.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.iter().any(Glob::is_everything)
    }

    /// The patterns.
    #[must_use]
    pub fn globs(&self) -> &[Glob] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Patterns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(TextOrList)? {
            Found::Text(text) => Ok(Self(vec![Glob::try_from(text).map_err(D::Error::custom)?])),
            // To its author it might as well mean "any" as "none".
            Found::List(globs) if globs.is_empty() => {
                Err(D::Error::custom("the list is empty: name something or leave it out"))
            }
            Found::List(globs) => Ok(Self(globs)),
        }
    }
}

enum Found {
    Text(String),
    List(Vec<Glob>),
}

struct TextOrList;

impl<'de> Visitor<'de> for TextOrList {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes or a list of such")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Found, E> {
        Ok(Found::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Found, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(list)).map(Found::List)
    }
}
