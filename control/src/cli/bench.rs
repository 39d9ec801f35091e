//! `towpath bench`: what both paths do on this host, on the screen.

use serde_json::Value;

use super::output::table::{Show, cell, list};

/// A line for each kind of packet.
pub(super) fn table(value: &Value) -> String {
    let get = |at: &str| cell(value.pointer(at), Show::Text);
    let mut text = format!(
        "towpath {}, Linux {}, load {}\n\nkernel path\n",
        get("/version"),
        get("/linux"),
        get("/load_1min")
    );
    match value.pointer("/kernel/why").and_then(Value::as_str) {
        Some(why) => text.push_str(&format!("  does not work here: {why}\n")),
        None => text.push_str("  forwards the test packets to the byte\n"),
    }
    let costs = value.pointer("/kernel").unwrap_or(&Value::Null);
    for cost in list(costs, "costs") {
        let packet = cell(cost.get("packet"), Show::Text);
        text.push_str(&line(&packet, &cell(cost.get("ns"), Show::Text)));
    }
    text.push_str("\nuserspace path, sending and receiving included\n");
    let packets = format!(
        "{} packets, {} lost",
        get("/user/packets"),
        get("/user/lost")
    );
    text.push_str(&line(&packets, &get("/user/ns")));
    text
}

fn line(what: &str, ns: &str) -> String {
    format!("  {what:<40}{ns:>8} ns\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_paths_are_shown() {
        let mut value = json!({
            "version": "0.1.0", "linux": "6.18.0", "load_1min": "0.10",
            "kernel": { "works": true, "why": null, "costs": [
                { "packet": "IPv4, forwarded", "ns": 47 }, { "packet": "nobody's", "ns": 12 } ] },
            "user": { "packets": 64000, "lost": 0, "packets_per_s": 64000.0, "ns": 15625 },
        });
        let expected = "towpath 0.1.0, Linux 6.18.0, load 0.10\n\n\
                        kernel path\n  forwards the test packets to the byte\n  \
                        IPv4, forwarded                               47 ns\n  \
                        nobody's                                      12 ns\n\n\
                        userspace path, sending and receiving included\n  \
                        64000 packets, 0 lost                      15625 ns\n";
        assert_eq!(table(&value), expected, "\n{}", table(&value));
        value["kernel"] = json!({ "works": false, "why": "no right to", "costs": [] });
        let expected = "kernel path\n  does not work here: no right to\n\nuserspace";
        assert!(table(&value).contains(expected));
    }
}
