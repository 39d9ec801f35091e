//! What there is beside calls: a server above this one, and a conference with people who speak,
//! wait and look.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use towpath_tests::clock;
use towpath_tests::crowd::Crowd;
use towpath_tests::http;
use towpath_tests::lab::{Lab, Role, plan};
use towpath_tests::process::{self, Towpath};
use towpath_tests::ua::Ua;

use super::page::{LIMIT, Page};
use super::stage::Stage;

const TOKEN: &str = "correct-horse-battery-staple";
const TOKEN_SHA256: &str = "87cbebfeebc05f7c54ac9336c4b4bbec831227a641951a4bde7edd56020f8590";

/// What follows `[sip]` in the edge's configuration.
pub(crate) fn configuration(lab: &Lab) -> &'static str {
    let token = lab.directory("upper").unwrap().join("token");
    fs::write(&token, TOKEN).unwrap();
    let text = format!(
        "[[sip.account]]\nuser = \"anna\"\npassword = \"hunter2\"\n\n\
         [api]\nlisten = [\"127.0.0.1:8080\"]\n\n\
         [conference]\nuris = [\"{ROOM}\"]\nchairs = [\"eva\"]\n\
         [[conference.floor]]\nid = \"audio\"\n\
         [[conference.floor]]\nid = \"slides\"\npolicy = \"chair\"\n\n\
         [cascade]\nupper = \"http://{UPPER}\"\ntoken_file = {token:?}\n\n",
    );
    // One configuration for one test.
    Box::leak(text.into_boxed_str())
}

const UPPER: &str = "10.9.0.20:8443";

/// A server of its own, where the conference server lives.
pub(crate) fn upper(lab: &Lab) -> Towpath {
    let directory = lab.directory("upper").unwrap();
    let text = format!(
        "[node]\nid = \"core-01\"\nstate_dir = {directory:?}\n\
         [sip]\ndomain = \"core.test\"\nauth = \"none\"\nlisten = [\"udp:10.9.0.20:5070\"]\n\
         [[network]]\nname = \"core\"\ninterface = \"eth0\"\npeers = [\"0.0.0.0/0\"]\n\
         address = \"10.9.0.20\"\nmedia_ports = \"50000-50099\"\n\
         [datapath]\nmode = \"userspace\"\n\
         [cascade]\nlisten = [\"tcp:{UPPER}\"]\n\
         [[cascade.lower]]\nid = \"lab\"\ntoken_sha256 = \"{TOKEN_SHA256}\"\n"
    );
    let namespace = lab.namespace(Role::Mcu).unwrap();
    Towpath::start(namespace, &process::binary().unwrap(), &directory, &text).unwrap()
}

const ROOM: &str = "8001";
const ROOM_IP: &str = "10.1.0.41";
/// Who is in the conference; the first is its chair.
pub(crate) const GUESTS: [(&str, &str); 4] = [
    ("eva", "10.1.0.51"),
    ("finn", "10.1.0.52"),
    ("gina", "10.1.0.53"),
    ("hugo", "10.1.0.54"),
];

/// Addresses of everybody here.
pub(crate) fn addresses() -> Vec<String> {
    let guests = GUESTS.iter().map(|(_, ip)| *ip);
    let all = guests.chain([ROOM_IP]);
    all.map(|ip| format!("{ip}/24")).collect()
}

/// People in a conference, as long as it is held.
pub(crate) struct Conference {
    pub(crate) cid: String,
    crowds: Vec<Crowd>,
    _guests: Vec<Ua>,
    _room: Ua,
}

impl Conference {
    /// Everybody calls the room. One speaks, two wait, one waits for the chair, one view is set.
    pub(crate) fn begin(stage: &Stage) -> Self {
        let phone = |user: &str, ip: &str| {
            let ua = stage.ua(Role::C3, user, ip, plan::EDGE_LAN);
            ua.register().unwrap();
            ua
        };
        let room = phone(ROOM, ROOM_IP);
        let guests = GUESTS.map(|(user, ip)| phone(user, ip));
        let crowds = guests.iter().map(|guest| {
            let call = guest.call(&room).unwrap();
            Crowd::start(guest, &room, &[call], Duration::from_millis(500)).unwrap()
        });
        let crowds = crowds.collect();
        let socket = stage.towpath.socket();
        let cid = clock::until("everybody is in the roster", LIMIT, || {
            let found = http::get(socket, "/api/v1/conferences")?;
            let one = &found["conferences"][0];
            let all = one["participants"].as_u64() >= Some(GUESTS.len() as u64);
            Ok(one["cid"].as_str().filter(|_| all).map(str::to_owned))
        });
        let this = Self {
            cid: cid.unwrap(),
            crowds,
            _guests: guests.into(),
            _room: room,
        };
        for (fid, pid, text) in [
            ("audio", "finn", "to begin with"),
            ("audio", "gina", "a question"),
            ("audio", "hugo", "<b>another</b>"),
            ("slides", "gina", "the plan"),
        ] {
            let path = format!("floor/{fid}/requests");
            this.order(socket, "POST", &path, &json!({ "pid": pid, "text": text }));
        }
        let target = json!({ "layout": "focus", "focus": "finn", "zoom": 2.5 });
        let order = json!({ "pid": "eva", "target": target });
        this.order(socket, "PUT", "views/main", &order);
        this
    }

    fn order(&self, socket: &Path, method: &str, path: &str, body: &Value) {
        let path = format!("/api/v1/conferences/{}/{path}", self.cid);
        let answer = http::send(socket, method, &path, "", &body.to_string()).unwrap();
        assert!(answer.status < 300, "{path}: {answer:?}");
    }

    pub(crate) fn finish(self) {
        for crowd in self.crowds {
            crowd.finish().unwrap();
        }
    }
}

/// The list and the one, as the API has them; the chair's decision is the API's afterwards.
pub(crate) fn conferences(page: &Page<'_>, cid: &str) {
    page.go("conferences");
    let listed = page.get("conferences")["conferences"][0].clone();
    page.until_rows("Conferences", |rows| rows.len() == 1);
    let row = page.rows("Conferences").remove(0);
    let number = |name: &str| listed[name].to_string();
    assert_eq!(row[0], listed["uri"].as_str().unwrap());
    assert_eq!(row[1], "lab");
    let counted = ["participants", "holders", "waiting", "views"].map(number);
    assert_eq!(counted[1..], ["1", "3", "1"], "{listed:#}");
    assert_eq!(row[2..6], counted, "{row:?}");
    page.click("tbody tr:first-child a");
    page.shown("conferences");
    page.says("Roster");
    let whole = page.get(&format!("conferences/{cid}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    roster(page, &whole);
    let named = |pid: &Value| {
        let roster = whole["roster"].as_array().unwrap().iter();
        let found = roster.clone().find(|one| one["pid"] == *pid).unwrap();
        text(&found["name"])
    };
    for floor in whole["floors"].as_array().unwrap() {
        let article = format!("article[data-key=\"{}\"]", text(&floor["fid"]));
        for (list, kind) in [("holders", "ul"), ("queue", "ol")] {
            let shown = page.list(&format!(
                "document.querySelectorAll('{article} {kind}.people > li > strong')"
            ));
            let expected = floor[list].as_array().unwrap().iter();
            let expected: Vec<String> = expected.map(|one| named(&one["pid"])).collect();
            assert_eq!(shown, expected, "{list} of {article}");
        }
        for one in floor["queue"].as_array().unwrap() {
            page.says(&text(&one["text"]));
        }
    }
    let view = &whole["views"][0];
    let seen = "article[data-key=main]";
    assert_eq!(page.fact(seen, "Layout"), text(&view["layout"]));
    assert_eq!(page.fact(seen, "Focus"), named(&view["focus"]));
    assert_eq!(page.fact(seen, "Zoom"), view["zoom"].to_string());
    assert_eq!(page.fact(seen, "Set by"), named(&view["by"]));
    page.picture("dashboard-conference");
    decide(page, cid);
}

fn roster(page: &Page<'_>, whole: &Value) {
    let rows = page.rows("Roster");
    let roster = whole["roster"].as_array().unwrap();
    assert_eq!(rows.len(), roster.len());
    for one in roster {
        let is_one = |row: &&Vec<String>| row.last().map(String::as_str) == one["pid"].as_str();
        let row = rows.iter().find(is_one).unwrap();
        assert_eq!(row[0], one["name"].as_str().unwrap());
        assert_eq!(row[1], one["role"].as_str().unwrap(), "{row:?}");
        assert_eq!(row[2], "●present", "{row:?}");
        let by = one["by"].as_array().unwrap();
        assert_eq!(row[4].split(", ").count(), by.len(), "{row:?}");
    }
}

/// Granted and revoked, each by a click.
fn decide(page: &Page<'_>, cid: &str) {
    let floor = |list: &str| {
        let floors = page.get(&format!("conferences/{cid}/floor"));
        let floors = floors["floors"].as_array().unwrap().iter();
        let slides = floors
            .clone()
            .find(|floor| floor["fid"] == "slides")
            .unwrap();
        slides[list].as_array().unwrap().len()
    };
    let holders = "document.querySelectorAll('article[data-key=slides] ul.people > li').length";
    assert_eq!((floor("holders"), floor("queue")), (0, 1));
    page.press("article[data-key=slides]", "Grant");
    page.says("Decided.");
    page.browser
        .until(&format!("{holders} === 1"), LIMIT)
        .unwrap();
    assert_eq!((floor("holders"), floor("queue")), (1, 0));
    page.press("article[data-key=slides]", "Revoke");
    page.browser
        .until(&format!("{holders} === 0"), LIMIT)
        .unwrap();
    assert_eq!((floor("holders"), floor("queue")), (0, 0));
}

/// It ends, and the page says so.
pub(crate) fn end(page: &Page<'_>, cid: &str) {
    page.value(&format!("location.hash = '#/conferences/{cid}'"));
    page.shown("conferences");
    page.press("main", "End the conference");
    page.press("dialog", "End the conference");
    page.says("The conference has ended.");
    assert_eq!(page.get("conferences")["conferences"], json!([]));
    page.says("No conference now.");
}

/// The link to the server above, alive, dead and alive again, as the API has it.
pub(crate) fn cascade(
    page: &Page<'_>,
    upper: &mut Towpath,
    stage: &Stage,
    conference: &Conference,
) {
    let share = format!("members/{ABOVE}");
    conference.order(stage.towpath.socket(), "PUT", &share, &Value::Null);
    page.go("cascade");
    let row = page.rows("SIP peers").remove(0);
    assert_eq!(row[..2], ["mcu", "10.9.0.20:5060"], "{row:?}");
    page.press("table[data-name=\"SIP peers\"]", "Probe");
    page.says("mcu is asked.");
    let within = "section[data-name=core-01]";
    page.browser
        .until(&format!("document.querySelector('{within}')"), LIMIT)
        .unwrap();
    link_becomes(page, "up");
    // Both are asked again and again: until they agree.
    let shown_as = |name: &str, of: &dyn Fn(&Value) -> String| {
        let mut last = (String::new(), String::new());
        clock::until(name, LIMIT, || {
            last = (page.fact(within, name), of(&page.get("links")["links"][0]));
            Ok((last.0 == last.1).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {last:?}"));
    };
    let number = |value: &Value| value.to_string();
    shown_as("Address", &|link| link["url"].as_str().unwrap().to_owned());
    shown_as("Round trip", &|link| {
        format!("{} ms ± {} ms", link["rtt_ms"], link["variation_ms"])
    });
    shown_as("Time-out now", &|link| format!("{} ms", link["timeout_ms"]));
    shown_as("Breaker", &|_| "●closed".to_owned());
    shown_as("Retries left", &|link| number(&link["retries_left"]));
    shown_as("Frames", &|link| {
        format!("{} sent, {} received", link["sent"], link["received"])
    });
    shown_as("Answered", &|link| number(&link["requests"]["answered"]));
    shown_as("Breaker opened", &|link| {
        number(&link["requests"]["breaker_opened"])
    });
    let plot = "document.querySelectorAll('.plot canvas').length === 1";
    page.browser.until(plot, LIMIT).unwrap();
    crosses(page, conference, "●reached");
    upper.kill().unwrap();
    link_becomes(page, "down");
    crosses(page, conference, "■not reached");
    let why = page.get("links")["links"][0]["why"].clone();
    page.says(why.as_str().unwrap());
    upper
        .restart(stage.lab.namespace(Role::Mcu).unwrap())
        .unwrap();
    link_becomes(page, "up");
    crosses(page, conference, "●reached");
    page.picture("dashboard-cascade");
    // From there to the conference itself, and back.
    page.click("section[data-name=core-01] td a");
    page.shown("conferences");
    page.says(&conference.cid);
    let unshare = format!("members/{ABOVE}");
    conference.order(stage.towpath.socket(), "DELETE", &unshare, &Value::Null);
    page.go("cascade");
    let none = "!document.querySelector('section[data-name=core-01] table')";
    page.browser.until(none, LIMIT).unwrap();
    assert_eq!(page.get("links")["links"][0]["conferences"], 0);
}

/// The server above.
const ABOVE: &str = "core-01";

/// The one conference that goes over the link, where it is at home and who shares it there.
fn crosses(page: &Page<'_>, conference: &Conference, state: &str) {
    let name = format!("Conferences over {ABOVE}");
    let expected = [ROOM, "lab", "home", &format!("{ABOVE} {state}")];
    page.until_rows(&name, |rows| matches!(rows, [row] if row[..] == expected));
    let link = &page.get("links")["links"][0];
    assert_eq!(link["conferences"], 1, "{link:#}");
    assert_eq!(link["crossing"][0]["cid"], conference.cid, "{link:#}");
}

/// On the page and in the API.
fn link_becomes(page: &Page<'_>, state: &str) {
    let pill = "document.querySelector('section[data-name=core-01] h2 .pill').innerText";
    let limit = Duration::from_secs(45);
    clock::until(state, limit, || {
        let there = page.get("links")["links"][0]["state"] == state;
        let shown = page.value(pill);
        let shown = shown.as_str().unwrap().ends_with(state);
        Ok((there && shown).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {:#}", page.get("links")));
}
