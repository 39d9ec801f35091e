//! What texts look like, by a name; regular expressions of ECMA-262, as JSON Schema wants them.

/// The pattern of a name; what has none takes any text.
pub(super) fn of(name: &str) -> String {
    let whole = |inner: String| format!("^({inner})$");
    match name {
        // An address, or a prefix of either family.
        "source" => whole(format!(
            "{V4}(/([0-9]|[12][0-9]|3[0-2]))?|({})(/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))?",
            v6()
        )),
        "ip" => whole(format!("{V4}|{}", v6())),
        // A host's address with a port that media may have.
        "target" => whole(format!("({HOST_V4}|\\[{HOST_V6}\\]):({PORT})")),
        "knock" => "^towpath-knock-[A-Za-z0-9]{16,82}$".to_owned(),
        "token-name" => "^[A-Za-z0-9._-]{1,64}$".to_owned(),
        "id" => "^[a-z0-9~-]{1,64}$".to_owned(),
        "layout" => "^[a-z0-9~-]{1,32}$".to_owned(),
        "user" => "^[^ ]{1,128}$".to_owned(),
        "kinds" => "^[a-z._,]{0,256}$".to_owned(),
        "key" => "^[!-~]{1,128}$".to_owned(),
        // It is the `id` of a command.
        "command" => "^[A-Za-z0-9._~-]{1,64}$".to_owned(),
        "levels" => whole(format!("{LEVEL}(,{LEVEL})*")),
        _ => ".*".to_owned(),
    }
}

const V4: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\
                  (\\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}";
/// Not this network, not loopback, not multicast or beyond.
const HOST_V4: &str = "([1-9]|[1-9][0-9]|1[01][0-9]|12[0-68-9]|1[3-9][0-9]|2[01][0-9]|22[0-3])\
                       (\\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}";
/// In full, or with nothing between a prefix and the last group.
const HOST_V6: &str = "[23][0-9a-f]{3}((:[0-9a-f]{1,4}){7}|(:[0-9a-f]{1,4}){0,5}::[0-9a-f]{1,4})";
const PORT: &str = "102[4-9]|10[3-9][0-9]|1[1-9][0-9]{2}|[2-9][0-9]{3}|[1-5][0-9]{4}|\
                    6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]";
const LEVEL: &str = "([A-Za-z0-9_:-]{1,64}=)?(off|error|warn|info|debug|trace)";

/// Eight groups, or fewer around `::`.
fn v6() -> String {
    let group = "[0-9A-Fa-f]{1,4}";
    let mut forms = vec![
        format!("({group}:){{7}}{group}"),
        format!("({group}:){{1,7}}:"),
    ];
    for before in 1..=6 {
        let after = 7 - before;
        forms.push(format!("({group}:){{{before}}}(:{group}){{1,{after}}}"));
    }
    forms.push(format!(":((:{group}){{1,7}}|:)"));
    forms.join("|")
}
