use super::{Invalid, characters, word};

/// shadow's bound is 32, of which directories know nothing; Active Directory has 20 and, before the `@`, 64.
const LONGEST_LOGIN: usize = 64;

/// RFC 1035, section 2.3.4.
const LONGEST_LABEL: usize = 63;
const LONGEST_DOMAIN: usize = 253;

/// What NetBIOS has room for, which account names in a domain still obey.
const LONGEST_COMPUTER: usize = 15;

const LONGEST_UNIT: usize = 1024;

/// A local login name, `login@domain` or `DOMAIN\login`.
pub(super) fn user(text: &str) -> Result<&str, Invalid> {
    if let Some((domain, login)) = text.split_once('\\') {
        computer(domain)?;
        self::login(login)?;
    } else if let Some((login, domain)) = text.split_once('@') {
        self::login(login)?;
        self::domain(domain)?;
    } else {
        login(text)?;
        // Programs take it for a user id before they look for such a name, or after.
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Invalid("a user's name is no number".to_owned()));
        }
    }
    Ok(text)
}

/// `login` or `login@REALM`. A backslash is an escape in Kerberos' names (krb5_parse_name), so it cannot name a domain there.
pub(super) fn principal(text: &str) -> Result<&str, Invalid> {
    match text.split_once('@') {
        Some((login, realm)) => {
            self::login(login)?;
            domain(realm)?;
        }
        None => login(text)?,
    }
    Ok(text)
}

/// As shadow's `useradd` allows them (with `$` at the end, for machines), with capitals and the dot, which directories bring.
fn login(text: &str) -> Result<(), Invalid> {
    let what = "user's name";
    let name = text.strip_suffix('$').unwrap_or(text);
    word(what, name, LONGEST_LOGIN, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// RFC 1123, section 2.1. A last label of digits only would make an address of it.
pub(super) fn domain(text: &str) -> Result<&str, Invalid> {
    let what = "domain's name";
    characters(what, text, LONGEST_DOMAIN, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))?;
    text.split('.').try_for_each(|part| label(what, part, LONGEST_LABEL))?;
    let last = text.rsplit('.').next().unwrap_or(text);
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid(format!("a {what} is no address")));
    }
    Ok(text)
}

pub(super) fn computer(text: &str) -> Result<&str, Invalid> {
    let what = "computer's name";
    label(what, text, LONGEST_COMPUTER)?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Invalid(format!("a {what} is no number")));
    }
    Ok(text)
}

/// A part of a host's name: letters, digits, and hyphens within.
fn label(what: &str, text: &str, most: usize) -> Result<(), Invalid> {
    characters(what, text, most, |c| c.is_ascii_alphanumeric() || c == '-')?;
    if text.starts_with('-') || text.ends_with('-') {
        return Err(Invalid(format!("a {what} has its hyphens between letters or digits")));
    }
    Ok(())
}

/// A distinguished name (RFC 4514) without escapes: who has a comma in a unit's name joins elsewhere.
pub(super) fn unit(text: &str) -> Result<&str, Invalid> {
    let what = "unit's name";
    characters(what, text, LONGEST_UNIT, |c| c.is_alphanumeric() || " _-.&()',=".contains(c))?;
    for (place, part) in text.split(',').enumerate() {
        let kinds: &[&str] = if place == 0 { &["OU", "CN"] } else { &["OU", "CN", "DC", "O"] };
        let (kind, value) = part.split_once('=').unwrap_or((part, ""));
        if !kinds.iter().any(|legal| legal.eq_ignore_ascii_case(kind)) {
            return Err(Invalid(format!("a {what} is written as OU=Servers,DC=example,DC=org")));
        }
        if value.is_empty() || value.trim() != value || value.contains('=') {
            return Err(Invalid(format!("a part of a {what} has a value without blanks around it, and one '='")));
        }
    }
    Ok(text)
}
