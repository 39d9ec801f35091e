//! A configuration's text as it may be shown: what is secret is left out, everything else stays.

use toml::de::DeTable;

use super::problem::{Span, tells_secret};

/// The text without the values of passwords and hashes, and without comments that may repeat one.
#[must_use]
pub fn redact(text: &str) -> String {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return "# not TOML: not shown, for it may hold passwords\n".to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for Place { span: secret, .. } in secrets(root.get_ref()) {
        shown.push_str(text.get(from..secret.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        // What follows on the line is kept unless it is a comment.
        let rest = text.get(secret.end..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        let comment = line.trim_start().starts_with('#');
        from = secret.end + if comment { line.len() } else { 0 };
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    let lines = shown.split_inclusive('\n').map(without_comment);
    lines.collect()
}

/// Stands where a secret stood.
const HIDDEN: &str = "\"…\"";

/// A secret's place, and whose it is.
struct Place {
    user: String,
    name: &'static str,
    span: Span,
}

/// In the order in which they stand.
fn secrets(root: &DeTable<'_>) -> Vec<Place> {
    let sip = root.iter().find(|(key, _)| key.get_ref() == "sip");
    let sip = sip.and_then(|(_, value)| value.get_ref().as_table());
    let accounts = sip.and_then(|sip| sip.iter().find(|(key, _)| key.get_ref() == "account"));
    let accounts = accounts.and_then(|(_, value)| value.get_ref().as_array());
    let entries = accounts.into_iter().flat_map(|list| list.iter());
    let tables = entries.filter_map(|entry| entry.get_ref().as_table());
    let mut secrets: Vec<Place> = tables.flat_map(of_account).collect();
    secrets.sort_by_key(|place| place.span.start);
    secrets
}

fn of_account<'t>(table: &'t DeTable<'_>) -> impl Iterator<Item = Place> + 't {
    let find = |name: &str| {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(value)
    };
    let user = find("user").and_then(|user| user.get_ref().as_str());
    let user = user.unwrap_or_default().to_owned();
    SECRETS.into_iter().filter_map(move |name| {
        let span = find(name)?.span();
        let user = user.clone();
        Some(Place { user, name, span })
    })
}

/// Of an account; a hash opens the door as its password does.
const SECRETS: [&str; 3] = ["password", "ha1_md5", "ha1_sha256"];

/// The text with the secrets that were left out of it, as `known` texts have them: the first that
/// knows one counts.
///
/// # Errors
/// Whose nobody knows.
pub fn restore(text: &str, known: &[&str]) -> Result<String, String> {
    let (root, _) = DeTable::parse_recoverable(text);
    let mut whole = String::with_capacity(text.len());
    let mut from = 0;
    for Place { user, name, span } in secrets(root.get_ref()) {
        if text.get(span.clone()) != Some(HIDDEN) {
            continue;
        }
        let secret = known.iter().find_map(|known| literal(known, &user, name));
        let secret = secret.ok_or_else(|| format!("{name} of {user}"))?;
        whole.push_str(text.get(from..span.start).unwrap_or_default());
        whole.push_str(&secret);
        from = span.end;
    }
    whole.push_str(text.get(from..).unwrap_or_default());
    Ok(whole)
}

/// The secret of an account as it is written.
fn literal(text: &str, user: &str, name: &str) -> Option<String> {
    // Most texts hold no account of that name: nothing is parsed for them.
    if !text.contains(user) {
        return None;
    }
    let (root, _) = DeTable::parse_recoverable(text);
    let mut places = secrets(root.get_ref()).into_iter();
    let place = places.find(|place| place.user == user && place.name == name)?;
    let literal = text.get(place.span)?;
    (literal != HIDDEN).then(|| literal.to_owned())
}

/// A key that was commented out keeps its name.
fn without_comment(line: &str) -> String {
    let end = if line.ends_with('\n') { "\n" } else { "" };
    match line.split_once('=') {
        Some((key, _)) if key.trim_start().starts_with('#') && tells_secret(line) => {
            format!("{key}= …{end}")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_nothing_else() {
        let check = |text: &str, expected: &str| assert_eq!(redact(text), expected);
        check(
            "[sip]\ndomain = 'x' # here\n",
            "[sip]\ndomain = 'x' # here\n",
        );
        check(
            "[[sip.account]]\nuser = '1'\npassword = 'hunter2' # was hunter1\n\n\
             [[sip.account]]\nha1_sha256='00'\nuser='2'\npassword_file = \"secret/2\"\n",
            "[[sip.account]]\nuser = '1'\npassword = \"…\"\n\n\
             [[sip.account]]\nha1_sha256=\"…\"\nuser='2'\npassword_file = \"secret/2\"\n",
        );
        check(
            "sip.account = [{ user = '1', password = 'a#b' }, { password = '''c\nd''' }]\n",
            "sip.account = [{ user = '1', password = \"…\" }, { password = \"…\" }]\n",
        );
        check(
            "#password = \"hunter2\"\n# password_file = \"x\"\n# a pass\n",
            "#password = …\n# password_file = \"x\"\n# a pass\n",
        );
        check(
            "[[sip.account]]\nuser = '1'\nha1_md5 = '00'\n",
            "[[sip.account]]\nuser = '1'\nha1_md5 = \"…\"\n",
        );
        check("", "");
        assert!(!redact("password = hunter2").contains("hunter2"));
    }

    const ACCOUNTS: &str = "[[sip.account]]\nuser = '1'\npassword = 'a'\n\
                            [[sip.account]]\nha1_md5 = \"00\"\nuser = '2'\n";

    #[test]
    fn what_was_left_out_comes_back() {
        let check = |text: &str, known: &[&str], expected: Result<&str, &str>| {
            let found = restore(text, known);
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check(&redact(ACCOUNTS), &[ACCOUNTS], Ok(ACCOUNTS));
        // The newest counts; one that has it left out as well does not.
        let newer = ACCOUNTS.replace("'a'", "'b'");
        check(
            &redact(ACCOUNTS),
            &[&redact(ACCOUNTS), &newer, ACCOUNTS],
            Ok(&newer),
        );
        // Another order, and nothing else is touched.
        check(
            "[[sip.account]]\nuser = '2'\nha1_md5 = \"…\" # x\n",
            &["", ACCOUNTS],
            Ok("[[sip.account]]\nuser = '2'\nha1_md5 = \"00\" # x\n"),
        );
        check(&redact(ACCOUNTS), &["", "[["], Err("password of 1"));
        let renamed = redact(ACCOUNTS).replace("'2'", "'3'");
        check(&renamed, &[ACCOUNTS], Err("ha1_md5 of 3"));
        check(ACCOUNTS, &[], Ok(ACCOUNTS));
        check("not TOML", &[], Ok("not TOML"));
    }
}
