//! The rules of all three programs.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use serde_json::Value;

use super::command::{self, Refused};
use super::{Brought, Part, nft};
use crate::doctor::facts::Source;
use crate::doctor::firewall::{Backend, Family, Ruleset, iptables};

/// One listing serves both: it tells which tables are iptables'.
pub(super) async fn nft_and_xt() -> Brought {
    let (listing, v4, v6) = tokio::join!(
        command::output("nft", &["-j", "list", "ruleset"]),
        command::output("iptables-nft-save", &[]),
        command::output("ip6tables-nft-save", &[]),
    );
    let saved = |family: Family, text: &Result<String, Refused>| match text {
        Ok(text) => Some(iptables::read(text, Backend::Xt, family)),
        Err(_) => None,
    };
    let (v4_rules, v6_rules) = (saved(Family::Ip, &v4), saved(Family::Ip6, &v6));
    let readable = [
        (Family::Ip, v4_rules.is_some()),
        (Family::Ip6, v6_rules.is_some()),
    ];
    let document = match listing {
        Ok(text) => serde_json::from_str::<Value>(&text)
            .map_err(|error| format!("nft printed no JSON: {error}")),
        Err(refused) => Err(why("nft", "nftables", refused)),
    };
    let nft = document.and_then(|document| {
        let theirs = iptables_tables(&document);
        // What cannot be read there is looked at here, as far as it can be.
        let foreign = |family: Family, table: &str| {
            readable.contains(&(family, true))
                && theirs.contains(&(family.name(), table.to_owned()))
        };
        nft::read(&document, &foreign)
    });
    let xt = match (v4_rules, v6_rules, &nft) {
        (Some(v4), Some(v6), _) => Ok(merged(v4, v6)),
        (Some(one), None, _) | (None, Some(one), _) => Ok(one),
        // nft has shown every table there is.
        (None, None, Ok(_)) => Ok(empty(Backend::Xt)),
        (None, None, Err(_)) => Err(v4.map_or_else(
            |refused| why("iptables-nft-save", "iptables", refused),
            |_| String::new(),
        )),
    };
    vec![
        (Source::Nft, nft.map(Part::Nft)),
        (Source::Xt, xt.map(Part::Xt)),
    ]
}

fn why(program: &str, package: &str, refused: Refused) -> String {
    match refused {
        Refused::NotInstalled => {
            format!("{program} is not installed: `apt install {package}` to look")
        }
        Refused::Said(said) => said,
    }
}

fn empty(backend: Backend) -> Ruleset {
    Ruleset {
        backend,
        chains: Vec::new(),
        remarks: Vec::new(),
    }
}

fn merged(mut one: Ruleset, other: Ruleset) -> Ruleset {
    one.chains.extend(other.chains);
    one.remarks.extend(other.remarks);
    one
}

/// Tables that iptables-nft made: its names, with its chains.
fn iptables_tables(document: &Value) -> BTreeSet<(&'static str, String)> {
    let listed = document.get("nftables").and_then(Value::as_array);
    let chains = listed.into_iter().flatten().filter_map(|o| o.get("chain"));
    let text = |chain: &Value, key: &str| {
        let text = chain.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let theirs = |chain: &Value| {
        let family = match text(chain, "family").as_str() {
            "ip" => "ip",
            "ip6" => "ip6",
            _ => return None,
        };
        let table = text(chain, "table");
        let tables = ["filter", "nat", "mangle", "raw", "security"];
        let chains = ["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"];
        let known = tables.contains(&table.as_str());
        (known && chains.contains(&text(chain, "name").as_str())).then_some((family, table))
    };
    chains.filter_map(theirs).collect()
}

/// Tables of old that are in the kernel now.
fn names(file: &str) -> Result<Vec<String>, String> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{file}: {error}: only root may see it")),
    }
}

pub(super) async fn legacy() -> Result<Ruleset, String> {
    let mut rules = empty(Backend::Legacy);
    for (file, program, family) in [
        (
            "/proc/self/net/ip_tables_names",
            "iptables-legacy-save",
            Family::Ip,
        ),
        (
            "/proc/self/net/ip6_tables_names",
            "ip6tables-legacy-save",
            Family::Ip6,
        ),
    ] {
        let tables = names(file)?;
        if tables.is_empty() {
            continue;
        }
        let text = command::output(program, &[]).await.map_err(|refused| {
            let tables = tables.join(", ");
            format!(
                "legacy tables ({tables}) are in force: {}",
                why(program, "iptables", refused)
            )
        })?;
        rules = merged(rules, iptables::read(&text, Backend::Legacy, family));
    }
    Ok(rules)
}
