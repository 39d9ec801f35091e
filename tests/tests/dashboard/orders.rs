//! What the page can do: each is clicked, confirmed, and looked up in the API.

use std::collections::BTreeSet;

use towpath_tests::clock;
use towpath_tests::ua::Ua;

use super::page::{LIMIT, Page};

fn until(page: &Page<'_>, what: &str, done: impl Fn(&Page<'_>) -> bool) {
    clock::until(what, LIMIT, || Ok(done(page).then_some(()))).unwrap();
}

/// A change is tried, applied and taken back; a broken text is refused with its line.
pub(crate) fn configuration(page: &Page<'_>) {
    page.go("configuration");
    let before = page.get("config");
    let generation = before["generation"].as_u64().unwrap();
    page.press("main", "Load what runs");
    let text = "document.querySelector('textarea').value";
    page.browser.until(text, LIMIT).unwrap();
    let text = page.value(text);
    let text = text.as_str().unwrap();
    let replace = |text: &str| {
        let quoted = serde_json::Value::from(text);
        page.value(&format!(
            "(a => {{ a.value = {quoted}; a.dispatchEvent(new Event('input')); return true }})\
             (document.querySelector('textarea'))"
        ));
    };
    replace(&text.replace("media_timeout", "media_timeot"));
    page.press("main", "Try it (changes nothing)");
    page.expects_refusal("config/plan");
    page.says("media_timeot");
    assert_eq!(
        page.value("[...document.querySelectorAll('main button.main')][0].disabled"),
        true
    );
    replace(&text.replace("\"600s\"", "\"601s\""));
    page.press("main", "Try it (changes nothing)");
    // The password that is left out of the text is none of the changes.
    assert!(text.contains("password = \"…\""), "{text}");
    page.until_rows("What would change", |rows| {
        rows.len() == 1 && rows[0][0] == "datapath.media_timeout"
    });
    assert_eq!(page.get("config")["generation"], generation);
    page.picture("dashboard-configuration");
    page.press("main", "Apply");
    page.press("dialog", "Apply");
    page.says("The configuration is in force.");
    assert_eq!(page.get("config")["generation"], generation + 1);
    page.until_rows("History", |rows| rows.len() == 2);
    page.press("table[data-name=History]", "Compare");
    page.until_rows("What would change", |rows| {
        rows.len() == 1 && rows[0][1..3] == ["601s", "10m"]
    });
    page.press("table[data-name=History]", "Roll back");
    page.press("dialog", "Roll back");
    page.says(&format!("Generation {generation} is in force again."));
    let after = page.get("config");
    assert_eq!(after["generation"], generation + 2);
    assert_eq!(after["hash"], before["hash"]);
}

/// No new calls, and calls again.
pub(crate) fn drain(page: &Page<'_>) {
    page.go("overview");
    page.press("main", "Drain");
    page.press("dialog", "Drain");
    page.says("This node takes no new calls");
    assert_eq!(page.get("drain")["draining"], true);
    page.press("main", "Take calls again");
    page.says("Calls are taken again.");
    assert_eq!(page.get("drain")["draining"], false);
}

pub(crate) fn bans(page: &Page<'_>) {
    page.go("registrations");
    page.write("input[name=source]", "198.51.100.0/24");
    page.write("input[name=seconds]", "600");
    page.press("form", "Ban");
    page.until_rows("Bans", |rows| {
        rows.len() == 1 && rows[0][0] == "198.51.100.0/24"
    });
    assert_eq!(page.get("bans")["bans"][0]["source"], "198.51.100.0/24");
    page.press("table[data-name=Bans]", "Lift");
    page.until_rows("Bans", <[_]>::is_empty);
    assert_eq!(page.get("bans")["bans"].as_array().unwrap().len(), 0);
}

pub(crate) fn registration(page: &Page<'_>) {
    let registered = |page: &Page<'_>| -> BTreeSet<String> {
        let all = page.get("registrations");
        let all = all["registrations"].as_array().unwrap().iter();
        let aors = all.map(|one| one["aor"].as_str().unwrap().to_owned());
        // Behind NAT, and it never registers again: it expires at some time.
        aors.filter(|aor| !aor.starts_with("emil@")).collect()
    };
    let mut expected = registered(page);
    page.go("registrations");
    page.write(".bar input[type=search]", "mallory");
    page.until_rows("Registrations", |rows| rows.len() == 1);
    page.press("table[data-name=Registrations]", "Drop");
    page.says("cannot be called until it registers again");
    // Thought better of it.
    page.press("dialog", "Cancel");
    assert_eq!(registered(page), expected);
    page.press("table[data-name=Registrations]", "Drop");
    page.press("dialog", "Drop");
    page.says("is no longer registered.");
    assert!(expected.remove("mallory@towpath.test"));
    assert_eq!(registered(page), expected);
}

/// Captured, refreshed, ended.
pub(crate) fn call(page: &Page<'_>, caller: &Ua, callee: &Ua) {
    let id = page.get("top?n=1&sort=id&order=asc&q=anna")["calls"][0]["id"].to_string();
    page.value(&format!("location.hash = '#/call/{id}'"));
    page.shown("call");
    page.press("main", "Capture 5 s");
    page.says("Captured ");
    let call_id = page.get(&format!("calls/{id}"))["call_id"].clone();
    let call_id = call_id.as_str().unwrap();
    page.press("main", "Tell both parties anew");
    page.says("Both parties are told.");
    caller.reoffered(call_id).unwrap();
    callee.reoffered(call_id).unwrap();
    page.press("main", "End the call");
    page.press("dialog", "End the call");
    page.says("The call has ended.");
    let bye = caller.request_of("BYE", call_id).unwrap();
    caller.respond(&bye, "200 OK", None).unwrap();
    page.expects_refusal(&format!("calls/{id}"));
    until(page, "the call to be gone", |page| {
        page.refused("GET", &format!("calls/{id}"), "")["code"] == "no_such_call"
    });
}
