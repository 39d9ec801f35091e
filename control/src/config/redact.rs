//! A configuration's text as it may be shown: what is secret is left out, everything else stays.

use toml::de::{DeTable, DeValue};

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
    for secret in secrets(root.get_ref()) {
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

fn secrets(root: &DeTable<'_>) -> Vec<Span> {
    let find = |table: &DeTable<'_>, name: &str| -> Option<Span> {
        let (_, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
        Some(value.span())
    };
    let sip = root.iter().find(|(key, _)| key.get_ref() == "sip");
    let sip = sip.and_then(|(_, value)| value.get_ref().as_table());
    let accounts = sip.and_then(|sip| sip.iter().find(|(key, _)| key.get_ref() == "account"));
    let accounts = accounts.and_then(|(_, value)| value.get_ref().as_array());
    let entries = accounts.into_iter().flat_map(|list| list.iter());
    let tables = entries.filter_map(|entry| match entry.get_ref() {
        DeValue::Table(table) => Some(table),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_) => None,
    });
    let mut secrets: Vec<Span> = tables
        .flat_map(|table| ["password", "ha1_sha256"].map(|name| find(table, name)))
        .flatten()
        .collect();
    secrets.sort_by_key(|span| span.start);
    secrets
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
        check("", "");
        assert!(!redact("password = hunter2").contains("hunter2"));
    }
}
