//! The dashboard in a real browser, against a daemon with a thousand calls: every view is opened,
//! its actions are clicked, and what it shows is compared with what the API says.
//!
//! With `TOWPATH_PICTURES` set to a directory, the pictures of the documentation are put there.

#![allow(clippy::panic, reason = "helpers of tests fail the test")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(
    clippy::indexing_slicing,
    reason = "an index that is wrong fails the test"
)]

use std::time::Duration;

use serde_json::Value;
use towpath_tests::browser::Browser;
use towpath_tests::crowd::Crowd;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::ua::{Dialog, Ua};

#[path = "dashboard/look.rs"]
mod look;
#[allow(dead_code, reason = "shared with the scenarios in namespaces")]
#[path = "netns/maps.rs"]
mod maps;
#[path = "dashboard/orders.rs"]
mod orders;
#[path = "dashboard/page.rs"]
mod page;
#[path = "dashboard/plenty.rs"]
mod plenty;
#[path = "dashboard/reach.rs"]
mod reach;
#[allow(dead_code, reason = "shared with the scenarios in namespaces")]
#[path = "netns/stage.rs"]
mod stage;

use page::{LIMIT, Page};
use stage::{Mode, Stage};

const CALLS: usize = 1_000;
/// Phones that call, each as often as the others.
const CALLERS: [(&str, &str); 4] = [
    ("anna", "10.1.0.31"),
    ("bo", "10.1.0.32"),
    ("chen", "10.1.0.33"),
    ("dana", "10.1.0.34"),
];
/// A packet of every stream in this time.
const EVERY: Duration = Duration::from_millis(500);

/// What a stranger may write into a header.
const HOSTILE: &str = "<img src=x onerror=alert(1)><script>alert(2)</script>";

#[test]
fn every_view_shows_what_the_api_says() {
    let lab = Lab::raise(&parts()).unwrap();
    let sip = plenty::configuration(&lab);
    let mut upper = plenty::upper(&lab);
    let stage = Stage::on(lab, Mode::Xdp, |config| {
        config.sip = sip;
        config.flows = 8_192;
        config.media_timeout = "600s";
        for network in &mut config.networks {
            network.ports = (20_000, 29_999);
        }
    });
    // The network of everybody else leads there: doctor looks.
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    edge.ip("route add default dev wan").unwrap();
    let (callers, mcu) = phones(&stage);
    let calls: Vec<Vec<Dialog>> = callers
        .iter()
        .map(|caller| {
            (0..CALLS / callers.len())
                .map(|_| caller.call(&mcu).unwrap())
                .collect()
        })
        .collect();
    let crowds = callers.iter().zip(&calls);
    let crowds: Vec<Crowd> = crowds
        .map(|(caller, calls)| Crowd::start(caller, &mcu, calls, EVERY).unwrap())
        .collect();
    let edge = stage.lab.namespace(Role::Edge).unwrap();
    let browser = Browser::start(edge).unwrap();
    let page = Page::open(&browser, &stage);
    page.first_paint();
    tokens(&page);
    page.assert_small("the first page");
    overview(&page);
    calls_table(&page);
    call(&page);
    registrations(&page);
    networks(&page);
    data_path(&page);
    no_conference(&page);
    let conference = plenty::Conference::begin(&stage);
    plenty::conferences(&page, &conference.cid);
    plenty::cascade(&page, &mut upper, &stage, &conference);
    events(&page);
    doctor(&page);
    look::everywhere(&page, &details(&page, &conference));
    look::keyboard(&page);
    reach::tour(&page, &format!("conferences/{}", conference.cid));
    plenty::end(&page, &conference.cid);
    orders::configuration(&page);
    orders::drain(&page);
    orders::bans(&page);
    orders::registration(&page);
    orders::call(&page, &callers[0], &mcu);
    audit(&page);
    page.assert_console_quiet();
    drop(browser);
    conference.finish();
    for crowd in crowds {
        crowd.finish().unwrap();
    }
}

fn parts() -> Parts {
    Parts {
        mcu: true,
        c3: true,
        nat: true,
        ..Parts::default()
    }
}

/// Views of one thing each.
fn details(page: &Page<'_>, conference: &plenty::Conference) -> [String; 3] {
    let call = page.get("top?n=1&sort=id&order=asc")["calls"][0]["id"].to_string();
    [
        format!("call/{call}"),
        format!("conferences/{}", conference.cid),
        format!("registrations/anna@{}", page.domain()),
    ]
}

/// Callers in the LAN, the conference server they call, and beside them a phone behind a NAT and
/// one with a hostile name.
fn phones(stage: &Stage) -> (Vec<Ua>, Ua) {
    let mcu = stage.phone(Role::Mcu, "9001");
    stage.phone(Role::C1, "emil");
    let c3 = stage.lab.namespace(Role::C3).unwrap();
    let prefixes = CALLERS.map(|(_, ip)| format!("{ip}/24"));
    let prefixes = [&prefixes[..], &plenty::addresses()].concat();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    c3.addresses("eth0", &prefixes).unwrap();
    let callers = CALLERS.map(|(user, ip)| {
        let ua = stage.ua(Role::C3, user, ip, plan::EDGE_LAN);
        ua.register().unwrap();
        ua
    });
    let hostile = stage.ua(Role::C3, "mallory", plan::ip(plan::C3_V4), plan::EDGE_LAN);
    hostile.register_as(HOSTILE).unwrap();
    (callers.into(), mcu)
}

fn overview(page: &Page<'_>) {
    page.go("overview");
    let status = page.get("status");
    assert_eq!(status["state"], "ok", "{status:#}");
    page.says("Everything this node looks at is in order.");
    let tiles = page.list("document.querySelectorAll('.tiles > div')");
    assert!(tiles[0].starts_with("Calls now\n1,000\n"), "{tiles:?}");
    assert!(tiles[1].starts_with("Registrations\n6"), "{tiles:?}");
    assert!(tiles[3].contains("4,000 of 4,000 flows"), "{tiles:?}");
    let used: u64 = page.get("networks")["networks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["pairs_used"].as_u64().unwrap())
        .sum();
    assert_eq!(used, 2_000);
    assert!(tiles[4].contains("2,000 of 15,000 pairs"), "{tiles:?}");
    // Every plot is a canvas with pixels on it, and says in words what it shows.
    let plots = page
        .value("document.querySelectorAll('.plot').length")
        .as_u64()
        .unwrap();
    assert_eq!(plots, 6);
    let drawn = "[...document.querySelectorAll('.plot canvas')].filter(c => c.width > 100).length";
    assert_eq!(page.value(drawn).as_u64().unwrap(), plots);
    let spoken = page.value("document.querySelector('.plot .canvas').getAttribute('aria-label')");
    assert!(
        spoken
            .as_str()
            .unwrap()
            .starts_with("Calls. standing: now 1,000"),
        "{spoken}"
    );
    page.picture("dashboard-overview");
}

fn calls_table(page: &Page<'_>) {
    page.go("calls");
    page.says("1,000 in all");
    let ids = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let expected = |query: &str| -> Vec<String> {
        let top = page.get(&format!("top?{query}"));
        let calls = top["calls"].as_array().unwrap().iter();
        calls.map(|call| call["id"].to_string()).collect()
    };
    // By the heading, then the other way round.
    page.click("th:nth-child(1) button");
    page.until_rows("Calls", |rows| {
        ids(rows) == expected("n=50&sort=id&order=asc")
    });
    page.click("th:nth-child(1) button");
    page.until_rows("Calls", |rows| {
        ids(rows) == expected("n=50&sort=id&order=desc")
    });
    let sorted = page.value("document.querySelector('th').getAttribute('aria-sort')");
    assert_eq!(sorted, "descending");
    page.click(".pager button:nth-of-type(3)");
    page.until_rows("Calls", |rows| {
        ids(rows) == expected("n=50&sort=id&order=desc&offset=50")
    });
    page.says("51–100 of 1,000");
    page.write(".bar input", "anna");
    page.says("250 of 1,000");
    page.until_rows("Calls", |rows| {
        rows.len() == 50 && rows.iter().all(|row| row[1] == "anna")
    });
    page.write(".bar input", "nobody at all");
    page.says("Nothing matches");
    page.write(".bar input", "");
    page.until_rows("Calls", |rows| rows.len() == 50);
    let row = page.rows("Calls").remove(0);
    assert_eq!(row[3], "●established", "{row:?}");
    assert_eq!(row[5..7], ["lan → core", "4 kernel"], "{row:?}");
}

fn call(page: &Page<'_>) {
    page.click("tbody tr:first-child a");
    page.shown("call");
    let id = page
        .value("location.hash")
        .as_str()
        .unwrap()
        .replace("#/call/", "");
    let explained = page.get(&format!("calls/{id}/explain"));
    for line in explained["answer"].as_array().unwrap() {
        page.says(line.as_str().unwrap());
    }
    let flows = explained["call"]["flows"].as_array().unwrap();
    for flow in flows {
        page.says(flow["at"].as_str().unwrap());
        page.says(flow["target"].as_str().unwrap());
    }
    page.picture("dashboard-call");
    ladder(page, &id);
    page.click("main section:last-of-type details:last-of-type summary");
    let steps = explained["flows"][flows.len() - 1]["steps"]
        .as_array()
        .unwrap();
    page.says(steps[0]["question"].as_str().unwrap());
}

/// Every message is an arrow and a line of the list; its text is shown when it is asked for.
fn ladder(page: &Page<'_>, id: &str) {
    let ladder = page.get(&format!("calls/{id}/ladder?full=true"));
    let messages = ladder["messages"].as_array().unwrap();
    assert!(messages.len() >= 6, "{ladder:#}");
    let said = |message: &Value| match message["method"].as_str() {
        Some(method) => method.to_owned(),
        None => format!("{} {}", message["code"], message["words"].as_str().unwrap()),
    };
    let arrows = page.value(
        "[...document.querySelectorAll('.ladder .said')].map(e => e.textContent.split(' · ')[0])",
    );
    let expected: Vec<String> = messages.iter().map(said).collect();
    assert_eq!(arrows, serde_json::json!(expected));
    page.click("details[data-key=ladder] summary");
    let rows = page.rows("Messages as a list");
    assert_eq!(rows.len(), messages.len());
    for (row, message) in rows.iter().zip(messages) {
        let party = usize::try_from(message["party"].as_u64().unwrap()).unwrap();
        let other = ladder["parties"][party]["address"].as_str().unwrap();
        let ends = match message["direction"].as_str().unwrap() {
            "in" => [other, "lab"],
            _ => ["lab", other],
        };
        assert_eq!(row[1..3], ends, "{message:#}");
    }
    page.press("details[data-key=ladder] tbody tr:first-child", "Show");
    let text = messages[0]["text"].as_str().unwrap();
    page.says(text.lines().next().unwrap());
    page.says("Content-Type: application/sdp");
}

fn registrations(page: &Page<'_>) {
    page.go("registrations");
    let known = page.get("registrations");
    let known = known["registrations"].as_array().unwrap();
    let rows = page.rows("Registrations");
    assert_eq!(rows.len(), known.len());
    for registration in known {
        let aor = registration["aor"].as_str().unwrap();
        let row = rows.iter().find(|row| row[0] == aor).unwrap();
        assert_eq!(row[1], registration["network"], "{row:?}");
        assert_eq!(row[2], registration["seen"], "{row:?}");
        let behind = if registration["nat"] == true {
            "yes"
        } else {
            "no"
        };
        assert_eq!(row[4], behind, "{row:?}");
    }
    // What a stranger wrote is text, to the letter.
    let hostile = rows
        .iter()
        .find(|row| row[0].starts_with("mallory@"))
        .unwrap();
    assert_eq!(hostile[8], HOSTILE);
    assert_eq!(
        page.value("document.querySelectorAll('main img, main script').length"),
        0
    );
    page.click("main a[href*='emil']");
    page.says("NAT");
    let explained = page.get(&format!("registrations/emil@{}/explain", page.domain()));
    for line in explained["bindings"][0]["answer"].as_array().unwrap() {
        page.says(line.as_str().unwrap());
    }
}

fn networks(page: &Page<'_>) {
    page.go("networks");
    for network in page.get("networks")["networks"].as_array().unwrap() {
        page.says(network["name"].as_str().unwrap());
        page.says(network["advertise"].as_str().unwrap());
        let (used, pairs) = (&network["pairs_used"], &network["pairs"]);
        let number = |value: &Value| value.to_string().replace("000", ",000");
        page.says(&format!("{} of {}", number(used), number(pairs)));
    }
    page.write("input[name=ip]", "10.1.0.31");
    page.click("form button");
    let explained = page.get("networks/explain?ip=10.1.0.31");
    for line in explained["locals"][0]["answer"].as_array().unwrap() {
        page.says(line.as_str().unwrap());
    }
    page.write("input[name=ip]", "nowhere");
    page.click("form button");
    let refused = page.refused("GET", "networks/explain?ip=nowhere", "");
    page.says(refused["detail"].as_str().unwrap());
    page.expects_refusal("networks/explain");
}

fn data_path(page: &Page<'_>) {
    page.go("datapath");
    let bpf = page.get("bpf");
    let rows = page.rows("Interfaces");
    let interfaces = bpf["interfaces"].as_array().unwrap();
    assert_eq!(rows.len(), interfaces.len());
    for interface in interfaces {
        let row = rows.iter().find(|row| row[0] == interface["name"]).unwrap();
        assert_eq!(row[1..3], ["●native", "in the driver"], "{row:?}");
    }
    let forwarded = bpf["verdicts"][0]["packets"].as_u64().unwrap();
    page.until_rows("Verdicts", |rows| {
        let row = rows.iter().find(|row| row[0] == "forwarded").unwrap();
        row[3].replace(',', "").parse::<u64>().unwrap() >= forwarded
    });
    assert_eq!(
        page.rows("Verdicts").len(),
        bpf["verdicts"].as_array().unwrap().len()
    );
    assert_eq!(
        page.rows("Maps").len(),
        bpf["maps"].as_array().unwrap().len()
    );
    page.says(bpf["program"]["tag"].as_str().unwrap());
}

fn events(page: &Page<'_>) {
    page.go("events");
    let listed = "document.querySelectorAll('.tail li').length > 100";
    page.browser.until(listed, LIMIT).unwrap();
    let last = page.get("events?since=0")["last"].as_u64().unwrap();
    let newest = "Number(document.querySelector('.tail li').dataset.key)";
    assert!(page.value(newest).as_u64().unwrap() <= last);
}

fn no_conference(page: &Page<'_>) {
    assert_eq!(
        page.get("conferences")["conferences"],
        serde_json::json!([])
    );
    page.go("conferences");
    page.says("No conference now.");
}

/// Every check is listed, with what it found.
fn doctor(page: &Page<'_>) {
    page.go("doctor");
    for check in page.get("doctor")["checks"].as_array().unwrap() {
        page.says(check["id"].as_str().unwrap());
    }
}

/// Nothing is shown without a token, and a viewer's changes nothing.
fn tokens(page: &Page<'_>) {
    let asked = "document.querySelector('dialog[open] input[type=password]')";
    page.browser.until(asked, LIMIT).unwrap();
    page.expects_refusal("/api/v1/");
    assert!(
        !page
            .value("document.body.innerText")
            .as_str()
            .unwrap()
            .contains("Calls now")
    );
    page.sign_in("made-up", false);
    page.says("does not know this token");
    page.sign_in(&page.token("desk", "viewer"), false);
    page.shown("overview");
    page.press("main", "Drain");
    page.press("dialog", "Drain");
    page.says("Your token may not do this");
    assert_eq!(page.get("drain")["draining"], false);
    // It was in that page's memory, and nowhere else.
    assert_eq!(
        page.value("sessionStorage.length + document.cookie.length"),
        0
    );
    page.press("header", "Sign out");
    page.browser.until(asked, LIMIT).unwrap();
    page.sign_in(&page.token("chief", "admin"), true);
    page.shown("overview");
}

/// What was changed here, and by whom.
fn audit(page: &Page<'_>) {
    page.go("audit");
    let lines = page.get("audit");
    let lines = lines["lines"].as_array().unwrap();
    page.until_rows("Audit", |rows| rows.len() == lines.len().min(50));
    let row = page.rows("Audit").remove(0);
    let last = lines
        .iter()
        .max_by_key(|line| line["seq"].as_u64())
        .unwrap();
    assert_eq!(row[0], last["seq"].to_string());
    assert_eq!(row[4], last["what"].as_str().unwrap());
    assert!(row[2].contains("chief"), "{row:?}");
    page.press("main", "Verify");
    page.says("lines are as they were written.");
}
