//! Taking a value out of a configuration file and leaving all else in it as somebody wrote it.

use toml::Table;

/// The text without a key that stands before its first table; nothing where it has no such key.
///
/// # Errors
/// Where the text is not TOML, or the key cannot be taken out of it without a change elsewhere.
pub fn without(text: &str, key: &str) -> Result<Option<String>, String> {
    let places = toml::de::DeTable::parse(text).map_err(|error| error.to_string())?;
    let Some((name, value)) = places.get_ref().get_key_value(key) else { return Ok(None) };
    let start = text[..name.span().start].rfind('\n').map_or(0, |end| end + 1);
    let after = value.span().end;
    let end = text[after..].find('\n').map_or(text.len(), |end| after + end + 1);
    let without = [&text[..start], &text[end..]].concat();

    let mut expected: Table = toml::from_str(text).map_err(|error| error.to_string())?;
    expected.remove(key);
    match toml::from_str::<Table>(&without) {
        Ok(found) if found == expected => Ok(Some(without)),
        _ => Err(format!("{key} cannot be taken out by itself; take it out by hand")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_goes() {
        let rest = "# vm_id = \"x\"\n\nauth = 'secret' # vm_id\n[other]\nvm_id = \"stays\"\n";
        for line in [
            "vm_id = \"vm-1\"\n",
            "  'vm_id'='vm-1'   # of this machine\n",
            "\"vm_id\" = \"\"\"\nvm-1\n\"\"\"\n",
            "vm_id = \"a\\\"b # c\"\r\n",
        ] {
            let (before, after) = rest.split_at(rest.find("auth").unwrap());
            let text = [before, line, after].concat();
            assert_eq!(without(&text, "vm_id").as_ref().map(Option::as_deref), Ok(Some(rest)), "{text}");
        }
        assert_eq!(without("vm_id = \"a\"", "vm_id"), Ok(Some(String::new())));
    }

    #[test]
    fn a_text_without_it_is_left() {
        for text in ["", "[other]\nvm_id = \"a\"\n", "# vm_id = \"a\"\n"] {
            assert_eq!(without(text, "vm_id"), Ok(None), "{text}");
        }
        assert!(without("vm_id = ", "vm_id").is_err());
        // Not by itself in its line, and no plain text at all.
        assert!(without("vm_id = { a = 1 }\nauth = \"secret\"\n", "vm_id").is_ok());
        assert!(without("vm_id.a = 1\nvm_id.b = 2\n", "vm_id").is_err());
    }
}
