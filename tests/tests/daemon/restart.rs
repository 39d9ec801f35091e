//! Calls that are up outlive the daemon.

use super::shards::dial;
use super::*;

/// Killed in mid-call: the call is there again, with its ports; it is asked after as ever, and
/// either party ends it.
#[test]
fn a_call_survives_a_kill_and_either_party_ends_it() {
    let name = "restart::a_call_survives_a_kill_and_either_party_ends_it";
    in_private_network(name, || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("journal");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        for (asks, answers) in [(&caller, &callee), (&callee, &caller)] {
            // Two registrations and what shards go by, or a call that has ended.
            becomes(&daemon, "what was before is kept", |d| number(d, KEPT) >= 3);
            let before = number(&daemon, KEPT);
            let call = caller.call(&callee);
            call.speak();
            let id = daemon.call();
            // Its dialog, and what each party said.
            becomes(&daemon, "the call is kept", |d| {
                number(d, KEPT) >= before + 3 && number(d, "towpath_store_pending") == 0
            });
            daemon.kill(|_| ());
            becomes(&daemon, "its sockets are open", |d| number(d, SOCKETS) == 4);
            assert_eq!(daemon.call(), id);
            call.speak();
            ask("OPTIONS", asks, answers);
            ask("BYE", asks, answers);
            becomes(&daemon, "all is let go", |d| number(d, SOCKETS) == 0);
            let pairs = "towpath_port_pairs_in_use{network=\"lan\"}";
            assert_eq!((number(&daemon, CALLS), number(&daemon, pairs)), (0, 0));
        }
        // What has ended does not come back.
        daemon.restart();
        assert_eq!(number(&daemon, CALLS), 0);
        Ok(())
    })
    .unwrap();
}

/// A thousand calls are there again within two seconds of a kill, whatever `sip.shards` says
/// meanwhile; once they are over, that counts.
#[test]
fn a_thousand_calls_are_back_in_two_seconds() {
    in_private_network("restart::a_thousand_calls_are_back_in_two_seconds", || {
        ip(LINKS)?;
        let shards = |count| {
            CONFIG.replace(
                "auth = \"none\"",
                &format!("auth = \"none\"\nshards = {count}"),
            )
        };
        let mut daemon = Daemon::with("thousand", &shards(3));
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let mut answers = Vec::with_capacity(MANY);
        for n in 0..MANY {
            let id = format!("{n}@many");
            let answer = dial(&caller, &callee, &id);
            caller.within(&answer, "ACK", 1, &id);
            callee.receive("ACK ");
            answers.push((id, answer));
        }
        becomes(&daemon, "they are kept", |d| {
            number(d, KEPT) >= 3 * u64::try_from(MANY).unwrap() + 4
                && number(d, "towpath_store_pending") == 0
        });
        let before = engines(&daemon);
        daemon.configure(&shards(2));
        let mut killed = None;
        daemon.kill(|_| killed = Some(clock::now()));
        let up = number(&daemon, CALLS);
        let took = killed.unwrap().elapsed();
        eprintln!("{up} calls were up again {took:?} after the kill");
        assert_eq!((up, engines(&daemon)), (1000, before));
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(
            daemon.log().contains("the number of shards stays"),
            "{}",
            daemon.log()
        );
        for (id, answer) in &answers {
            caller.within(answer, "BYE", 2, id);
            let bye = callee.receive("BYE ");
            assert_eq!(header(&bye, "Call-ID:").trim(), id);
            callee.answer(&bye, "200 OK", "");
            caller.receive("SIP/2.0 200");
        }
        becomes(&daemon, "they are over", |d| {
            number(d, CALLS) == 0 && number(d, SOCKETS) == 0
        });
        daemon.restart();
        assert_eq!(engines(&daemon).len(), 2);
        Ok(())
    })
    .unwrap();
}

const MANY: usize = 1000;

/// How many calls each engine has.
fn engines(daemon: &Daemon) -> Vec<u64> {
    let status = http::get(&daemon.socket(), "/api/v1/status").unwrap();
    let shards = status["shards"].as_array().unwrap().iter();
    shards
        .map(|shard| shard["calls"].as_u64().unwrap())
        .collect()
}

const KEPT: &str = "towpath_store_records_total{result=\"kept\"}";
const SOCKETS: &str = "towpath_media_sockets";
const CALLS: &str = "towpath_calls{state=\"answered\"}";

fn number(daemon: &Daemon, series: &str) -> u64 {
    let text = daemon.metrics();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series));
    let value = values
        .next()
        .unwrap_or_else(|| panic!("no {series} in\n{text}"));
    value.trim().parse().unwrap()
}

fn becomes(daemon: &Daemon, what: &str, is: impl Fn(&Daemon) -> bool) {
    let found = clock::until(what, LIMIT, || Ok(is(daemon).then_some(())));
    found.unwrap_or_else(|late| panic!("{late}: {:?}\n{}", daemon.ask(&["events"]), daemon.log()));
}

/// A request inside the call that 1001 made, which the other party gets and answers.
fn ask(method: &str, asks: &Phone, answers: &Phone) {
    let tag = |phone: &Phone| if phone.user == "1001" { "f1001" } else { "t1" };
    let party = |phone: &Phone| format!("<sip:{}@example.com>;tag={}", phone.user, tag(phone));
    let cseq = if method == "BYE" { 12 } else { 11 };
    let lines = [
        format!("{method} sip:example.com SIP/2.0"),
        format!("Via: {}", asks.via(&format!("{method}-{}", asks.user))),
        "Max-Forwards: 70".to_owned(),
        format!("From: {}", party(asks)),
        format!("To: {}", party(answers)),
        "Call-ID: INVITE-1001".to_owned(),
        format!("CSeq: {cseq} {method}"),
        format!("Contact: {}", asks.contact()),
    ];
    asks.send(&lines.join(CRLF), "", "");
    let request = answers.receive(&format!("{method} "));
    answers.answer(&request, "200 OK", "");
    asks.receive("SIP/2.0 200");
}
