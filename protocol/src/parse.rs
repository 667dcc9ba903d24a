use serde::{Deserialize, Deserializer};

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The line is not JSON in UTF-8, not an object, or has no `type`.
    #[error("the line is not a JSON object with a type: {0}")]
    NotAnObject(#[source] serde_json::Error),
    /// A well-formed object whose `type` nobody here knows. A long one is cut: it ends up in logs.
    #[error("no message has the type {0:?}")]
    UnknownType(String),
    /// A known type with fields that are missing or of the wrong shape.
    #[error("the {kind} message is not as it should be: {source}")]
    Fields {
        /// The message's `type`.
        kind: String,
        /// What is wrong, with its column.
        source: serde_json::Error,
    },
}

/// A line as text, where it is the text of an object. serde_json would let bytes that are no UTF-8 pass in fields that nobody reads,
/// and would read a struct from an array.
pub(crate) fn object(line: &[u8]) -> Result<&str, serde_json::Error> {
    let line = std::str::from_utf8(line).map_err(serde::de::Error::custom)?;
    match line.trim_ascii_start().starts_with('{') {
        true => Ok(line),
        false => Err(serde::de::Error::custom("it does not begin with {")),
    }
}

/// Reads a line's `type` and hands the line on as text.
pub(crate) fn head(line: &[u8]) -> Result<(String, &str), ParseError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "type")]
        kind: String,
    }
    let line = object(line).map_err(ParseError::NotAnObject)?;
    let Head { kind } = serde_json::from_str(line).map_err(ParseError::NotAnObject)?;
    Ok((kind, line))
}

/// A `type` of any length as an error.
pub(crate) fn unknown(mut kind: String) -> ParseError {
    kind.truncate(kind.floor_char_boundary(64));
    ParseError::UnknownType(kind)
}

/// Reads the fields of a message whose type is known.
pub(crate) fn fields<'a, T: Deserialize<'a>>(kind: &str, line: &'a str) -> Result<T, ParseError> {
    serde_json::from_str(line).map_err(|source| ParseError::Fields { kind: kind.to_owned(), source })
}

/// On the wire absent and `null` mean the same; for a field with a default both give the default.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// For `skip_serializing_if`: a flag that is off stays off the wire.
pub(crate) fn is_false(flag: &bool) -> bool {
    !flag
}
