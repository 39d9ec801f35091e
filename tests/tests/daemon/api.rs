//! The API over TCP, as programs that do not belong to the host see it: who may do what, and that
//! the document which describes it is true.

use std::net::SocketAddr;

use towpath_tests::http::Reply;
use towpath_tests::pki::Authority;

use super::*;

#[path = "api/permits.rs"]
mod permits;

const AT: &str = "127.0.0.1:8080";

impl Daemon {
    /// With a token, or none.
    pub(super) fn tcp(&self, operation: (&str, &str), token: Option<&str>, body: &str) -> Reply {
        let head = token.map_or(String::new(), |t| format!("Authorization: Bearer {t}\r\n"));
        self.tcp_with(operation, &head, body)
    }

    fn tcp_with(&self, operation: (&str, &str), head: &str, body: &str) -> Reply {
        let at: SocketAddr = AT.parse().unwrap();
        http::over_tcp(at, operation, head, body.as_bytes())
            .unwrap_or_else(|error| panic!("{operation:?}: {error:#}\n{}", self.log()))
    }

    pub(super) fn token(&self, name: &str, role: &str) -> String {
        let (code, text) = self.ask(&["token", "create", name, "--role", role]);
        assert_eq!(code, 0, "{text}");
        text.trim().to_owned()
    }
}

pub(super) fn open(name: &str, more: &str) -> Daemon {
    Daemon::with(name, &format!("{CONFIG}[api]\nlisten = [\"{AT}\"]\n{more}"))
}

pub(super) fn code(reply: &Reply) -> String {
    let document = reply.json().unwrap_or_default();
    document["code"].as_str().unwrap_or_default().to_owned()
}

/// One operation of the document.
struct Operation {
    verb: String,
    path: String,
    role: String,
    described: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (verb, described) in operations.as_object().unwrap() {
            all.push(Operation {
                verb: verb.to_uppercase(),
                path: path.clone(),
                role: described["x-towpath-role"].as_str().unwrap().to_owned(),
                described: described.clone(),
            });
        }
    }
    all
}

impl Operation {
    /// Something that is not there.
    fn nothing(&self) -> String {
        let parts = self.path.split('/').map(|part| match part {
            "{source}" => "192.0.2.99",
            "{id}" | "{number}" => "4000000000",
            part if part.starts_with('{') => "nobody",
            part => part,
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// The answer is one that the document describes.
    #[track_caller]
    fn described(&self, document: &Value, reply: &Reply) {
        let what = format!("{} {}: {reply:?}", self.verb, self.path);
        let response = &self.described["responses"][reply.status.to_string()];
        assert!(response.is_object(), "status of {what}");
        let kind = reply.field("content-type").unwrap_or_default();
        let content = response["content"].as_object().unwrap();
        let content = content.get(kind);
        let content = content.unwrap_or_else(|| panic!("type of {what}"));
        if let (Some(schema), Some(found)) = (content.get("schema"), reply.json()) {
            let violations = schema::violations(document, schema, &found);
            assert!(violations.is_empty(), "{violations:#?} {what}\n{found:#}");
        }
    }
}

#[test]
fn every_operation_takes_its_role_and_answers_as_described() {
    let name = "api::every_operation_takes_its_role_and_answers_as_described";
    in_private_network(name, || {
        ip(LINKS)?;
        let daemon = open("roles", "rate = 0\n");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let call = caller.call(&callee);
        call.speak();
        let roles = ["viewer", "operator", "admin"];
        let tokens = roles.map(|role| daemon.token(role, role));
        let document = daemon.tcp(("GET", "/api/v1/openapi.json"), None, "");
        let document = document.json().unwrap();
        let rank = |role: &str| roles.iter().position(|known| *known == role);
        for operation in operations(&document) {
            let path = operation.nothing();
            let verb = (operation.verb.as_str(), path.as_str());
            for shown in [None, Some("viewer"), Some("operator"), Some("admin")] {
                let token = shown.and_then(rank).map(|rank| tokens[rank].as_str());
                let reply = daemon.tcp(verb, token, "");
                operation.described(&document, &reply);
                let expected = match (shown, rank(&operation.role)) {
                    (_, None) => "",
                    (None, Some(_)) => "unauthorized",
                    (Some(shown), needed) if rank(shown) < needed => "forbidden",
                    (Some(_), _) => "",
                };
                let found = code(&reply);
                let refused = matches!(found.as_str(), "unauthorized" | "forbidden");
                let what = format!("{verb:?} as {shown:?}: {found}");
                assert_eq!(refused, !expected.is_empty(), "{what}");
                assert!(!refused || found == expected, "{what}");
                assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
                let policy = reply.field("content-security-policy").unwrap();
                assert!(policy.starts_with("default-src 'none'"), "{policy}");
            }
        }
        live(&daemon, &document, &tokens[2]);
        outside(&daemon, &tokens);
        Ok(())
    })
    .unwrap();
}

/// What is there while a call is up.
fn live(daemon: &Daemon, document: &Value, token: &str) {
    let number = daemon.call();
    for operation in operations(document).iter().filter(|o| o.verb == "GET") {
        let path = operation.path.replace("{id}", &number);
        let path = path.replace("{aor}", "1001@example.com");
        let path = path.replace("{number}", "1").replace("{name}", "viewer");
        let path = match operation.path.ends_with("networks/explain") {
            true => format!("{path}?ip=10.0.0.20"),
            false => path,
        };
        if path.contains('{') {
            continue;
        }
        let reply = daemon.tcp(("GET", &path), Some(token), "");
        operation.described(document, &reply);
        assert_eq!(reply.status, 200, "{path} {reply:?}");
    }
}

/// What is no operation at all.
fn outside(daemon: &Daemon, tokens: &[String]) {
    let token = Some(tokens[2].as_str());
    let check = |operation, token, body: &str, status: u16, expected: &str| {
        let reply = daemon.tcp(operation, token, body);
        assert_eq!((reply.status, code(&reply).as_str()), (status, expected));
        let kind = reply.field("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{reply:?}");
    };
    check(("GET", "/api/v1/nothing"), token, "", 404, "not_found");
    check(("GET", "/api/v2/status"), None, "", 404, "not_found");
    let not_allowed = "method_not_allowed";
    check(("POST", "/api/v1/status"), token, "", 405, not_allowed);
    let large = "x".repeat(64 * 1024 + 1);
    let bans = ("POST", "/api/v1/bans");
    check(bans, token, &large, 413, "body_too_large");
    check(bans, token, "{", 400, "bad_ban");
    check(bans, Some("towpath_00"), "{", 401, "bad_token");
    let login = daemon.tcp_with(bans, "Authorization: Basic YTpi\r\n", "");
    assert_eq!(code(&login), "bad_token");
    let asked = login.field("www-authenticate");
    assert_eq!(asked, Some("bearer realm=\"towpath\""));
    let reply = daemon.tcp(("GET", "/metrics"), Some(&tokens[0]), "");
    let text = String::from_utf8(reply.body).unwrap();
    parse_metrics(&text);
    // Every operation was asked by everybody, and no label names a call or a user.
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < SERIES_MAX / 2, "{series}");
    assert!(
        !text.contains("1001") && !text.contains("10.0.0.20"),
        "{text}"
    );
    let line = "towpath_api_requests_total{route=\"POST /api/v1/bans\",code_class=\"4xx\"} ";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("towpath_api_refused_total{reason=\"forbidden\"} "));
}

/// One scrape has fewer, however many calls there are: labels have few values.
const SERIES_MAX: usize = 3_000;

/// Generated requests, most of them nonsense: each is answered as the document says.
#[test]
fn nonsense_is_refused_as_described() {
    in_private_network("api::nonsense_is_refused_as_described", || {
        ip(LINKS)?;
        let daemon = open("nonsense", "rate = 0\n");
        let token = daemon.token("t", "operator");
        let document = daemon.tcp(("GET", "/api/v1/openapi.json"), None, "");
        let document = document.json().unwrap();
        // What looks at the host takes its time, and has tests of its own.
        let quick = |operation: &Operation| operation.path != "/api/v1/doctor";
        let operations: Vec<Operation> = operations(&document).into_iter().filter(quick).collect();
        let mut random = Random(SEED);
        for round in 0..ROUNDS {
            let operation = &operations[random.below(operations.len())];
            let parts = operation.path.split('/').map(|part| match part {
                part if part.starts_with('{') => random.pick(&ODD_PARTS),
                part => part,
            });
            let mut path = parts.collect::<Vec<_>>().join("/");
            if random.below(3) == 0 {
                path = format!("{path}?{}", random.pick(&ODD_QUERIES));
            }
            let body = random.pick(&ODD_BODIES);
            let head = random.pick(&ODD_HEADS);
            let head = format!("Authorization: Bearer {token}\r\n{head}");
            let verb = (operation.verb.as_str(), path.as_str());
            let reply = daemon.tcp_with(verb, &head, body);
            let what = format!("round {round} of seed {SEED}: {verb:?} {head}{body}: {reply:?}");
            if reply.status >= 400 {
                assert!(!code(&reply).is_empty(), "{what}");
            }
            // Another path than that of the operation is not described.
            let part = |path: &str| path.split('?').next().unwrap().split('/').count();
            if code(&reply) != "not_found" && part(&path) == part(&operation.path) {
                operation.described(&document, &reply);
            }
        }
        assert_eq!(daemon.ask(&["status"]).0, 0);
        Ok(())
    })
    .unwrap();
}

const SEED: u64 = 20_261_123;
const ROUNDS: usize = 1_000;
const ODD_PARTS: [&str; 9] = [
    "0",
    "-1",
    "18446744073709551616",
    "%00",
    "%2F..%2F..",
    "a%20b",
    "%F0%9F%92%A9",
    "*",
    "1e3",
];
const ODD_QUERIES: [&str; 9] = [
    "",
    "since=",
    "since=-1",
    "ip=",
    "ip=10.0.0.1:5060",
    "ip=::1&local=x",
    "packets=0&seconds=999",
    "limit=x",
    "a=%FF&a=b&c",
];
const ODD_BODIES: [&str; 8] = [
    "",
    "{",
    "[]",
    "null",
    "{\"source\": 5}",
    "{\"source\": \"0.0.0.0/33\", \"seconds\": -1}",
    "{\"leg\": \"caller\", \"media\": \"loud\"}",
    "\u{0}",
];
const ODD_HEADS: [&str; 5] = [
    "",
    "If-Match: x\r\n",
    "Idempotency-Key: \r\n",
    "Accept: text/event-streams\r\n",
    "Content-Type: application/xml\r\n",
];

/// An LCG: the same numbers for a seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % count
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

#[test]
fn tokens_end_and_guesses_are_limited() {
    in_private_network("api::tokens_end_and_guesses_are_limited", || {
        ip(LINKS)?;
        let mut daemon = open("tokens", "rate = 1\nmetrics = \"open\"\n");
        let status = ("GET", "/api/v1/status");
        let (_, none) = daemon.ask(&["token", "list"]);
        assert!(none.starts_with("no tokens"), "{none}");
        let token = daemon.token("grafana", "viewer");
        let other = daemon.token("other", "viewer");
        // Ten seconds' worth at once.
        for n in 0..10 {
            assert_eq!(daemon.tcp(status, Some(&token), "").status, 200, "{n}");
        }
        let reply = daemon.tcp(status, Some(&token), "");
        assert_eq!((reply.status, &*code(&reply)), (429, "too_many_requests"));
        assert_eq!(reply.field("retry-after"), Some("1"));
        assert_eq!(daemon.tcp(("GET", "/metrics"), None, "").status, 200);
        assert_eq!(daemon.tcp(("GET", "/livez"), Some(&token), "").status, 200);
        // Who guesses is told to wait; who has a token is not.
        for n in 0..10 {
            let reply = daemon.tcp(status, Some(&format!("towpath_{n}")), "");
            assert_eq!(code(&reply), "bad_token", "{n}");
        }
        let reply = daemon.tcp(status, Some("towpath_x"), "");
        assert_eq!((reply.status, &*code(&reply)), (429, "too_many_failures"));
        assert!(reply.field("retry-after").is_some());
        assert_eq!(daemon.tcp(status, Some(&other), "").status, 200);
        // Kept, and taken back.
        daemon.restart();
        assert_eq!(daemon.tcp(status, Some(&other), "").status, 200);
        let (_, list) = daemon.ask(&["token", "list"]);
        assert_eq!(list.lines().count(), 3, "{list}");
        let revoked = (0, "other: revoked\n".to_owned());
        assert_eq!(daemon.ask(&["token", "revoke", "other"]), revoked);
        assert_eq!(code(&daemon.tcp(status, Some(&other), "")), "bad_token");
        let kept = fs::read_to_string(daemon.directory.join("tokens.json"))?;
        assert!(!kept.contains(token.trim_start_matches("towpath_")));
        Ok(())
    })
    .unwrap();
}

#[test]
fn an_order_given_twice_under_one_key_is_carried_out_once() {
    let name = "api::an_order_given_twice_under_one_key_is_carried_out_once";
    in_private_network(name, || {
        ip(LINKS)?;
        let daemon = open("repeat", "");
        let admin = daemon.token("admin", "admin");
        let head =
            |key: &str| format!("Authorization: Bearer {admin}\r\nIdempotency-Key: {key}\r\n");
        let order = r#"{"name": "a", "role": "viewer"}"#;
        let tokens = ("POST", "/api/v1/tokens");
        let first = daemon.tcp_with(tokens, &head("k1"), order);
        let again = daemon.tcp_with(tokens, &head("k1"), order);
        assert_eq!((first.status, again.status), (200, 200), "{again:?}");
        assert_eq!(first.json(), again.json());
        assert_eq!(first.field("idempotency-replayed"), None);
        assert_eq!(again.field("idempotency-replayed"), Some("true"));
        let other = daemon.tcp_with(tokens, &head("k1"), r#"{"name": "b", "role": "viewer"}"#);
        assert_eq!(code(&other), "key_reused");
        let exists = daemon.tcp_with(tokens, &head("k2"), order);
        assert_eq!(code(&exists), "token_exists");
        let long = "k".repeat(129);
        assert_eq!(
            code(&daemon.tcp_with(tokens, &head(&long), order)),
            "bad_key"
        );
        let (_, list) = daemon.ask(&["token", "list", "-o", "jsonl"]);
        assert_eq!(list.lines().count(), 2, "{list}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn every_change_is_in_the_audit_log_and_a_changed_line_is_found() {
    let name = "api::every_change_is_in_the_audit_log_and_a_changed_line_is_found";
    in_private_network(name, || {
        ip(LINKS)?;
        let mut daemon = open("audit", "");
        let token = daemon.token("viewer", "viewer");
        daemon.tcp(("DELETE", "/api/v1/calls/7"), Some(&token), "");
        daemon.tcp(("DELETE", "/api/v1/calls/7"), None, "");
        daemon.ask(&["ban", "add", "192.0.2.7"]);
        daemon.ask(&["call", "kill", "7"]);
        daemon.ask(&["status"]);
        let text = format!("{CONFIG}[api]\nlisten = [\"{AT}\"]\nrate = 7\n");
        daemon.configure(&text);
        daemon.reloads("SIGHUP: configuration applied generation=2");
        daemon.configure("[sip]\n");
        daemon.reloads("towpath.toml: 2 problems; nothing has changed");
        daemon.configure(&text);
        daemon.restart();
        let (_, lines) = daemon.ask(&["audit", "list", "-o", "jsonl"]);
        let shown: Vec<String> = lines
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                let (who, what, result) = (text("who"), text("what"), text("result"));
                format!(
                    "{who} {} {what} {result} {}",
                    text("address"),
                    line["generation"]
                )
            })
            .collect();
        let expected = [
            "daemon - start done 1",
            "uid 0 unix POST /api/v1/tokens done 1",
            "token viewer 127.0.0.1 DELETE /api/v1/calls/7 forbidden 1",
            "nobody 127.0.0.1 DELETE /api/v1/calls/7 unauthorized 1",
            "uid 0 unix POST /api/v1/bans done 1",
            "uid 0 unix DELETE /api/v1/calls/7 no_such_call 1",
            "SIGHUP - reload done 2",
            "SIGHUP - reload invalid_configuration 2",
            "daemon - start done 2",
        ];
        assert_eq!(shown, expected);
        let whole = (0, "whole: 9 lines, 1 to 9\n".to_owned());
        assert_eq!(daemon.ask(&["audit", "verify"]), whole);
        let path = daemon.directory.join("audit.jsonl");
        let text = fs::read_to_string(&path)?;
        fs::write(
            &path,
            text.replace("192.0.2.7", "192.0.2.8")
                .replace("bans", "peers"),
        )?;
        let (code, told) = daemon.ask(&["audit", "verify"]);
        assert_eq!(code, 1);
        assert!(told.contains("audit.jsonl:5: line 5 was changed"), "{told}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn listeners_come_and_go_and_tls_is_hot() {
    in_private_network("api::listeners_come_and_go_and_tls_is_hot", || {
        ip(LINKS)?;
        let mut daemon = open("doors", "");
        let free = |at: &str| std::net::TcpListener::bind(at).is_ok();
        assert!(!free(AT) && free("[::1]:8080") && free("10.0.0.3:8081"));
        let directory = daemon.directory.join("pki");
        fs::create_dir(&directory)?;
        let authority = Authority::new(&directory)?;
        for file in ["one", "two"] {
            authority.issue(file, "IP:10.0.0.3", 30)?;
        }
        let listen = "[api]\nlisten = [\"[::1]:8080\", \"10.0.0.3:8081\"]\n";
        daemon.configure(&format!("{CONFIG}{listen}"));
        daemon.reloads("others can reach 10.0.0.3:8081, and could read tokens on the way");
        assert!(!free(AT));
        let with = |file: &str| {
            format!(
                "{CONFIG}{listen}[api.tls]\ncertificate = \"pki/{file}.pem\"\n\
                 key = \"pki/{file}.key\"\n"
            )
        };
        daemon.configure(&with("one"));
        daemon.reloads("configuration applied generation=2");
        assert!(free(AT) && !free("10.0.0.3:8081") && !free("[::1]:8080"));
        let one = shown(&directory);
        assert!(
            one.contains("HTTP/1.1 200 OK") && one.contains("CN = one"),
            "{one}"
        );
        daemon.configure(&with("two"));
        daemon.reloads("configuration applied generation=3");
        let two = shown(&directory);
        assert!(
            two.contains("HTTP/1.1 200 OK") && two.contains("CN = two"),
            "{two}"
        );
        // A key that is another certificate's: nothing changes.
        daemon.configure(&with("two").replace("two.key", "one.key"));
        daemon.reloads("the key does not belong to the certificate");
        assert!(shown(&directory).contains("CN = two"));
        // A busy port: the same.
        let busy = std::net::TcpListener::bind("[::1]:9090")?;
        daemon.configure(&with("two").replace("[::1]:8080", "[::1]:9090"));
        daemon.reloads("cannot listen at [::1]:9090: Address already in use");
        assert!(!free("[::1]:8080"));
        drop(busy);
        Ok(())
    })
    .unwrap();
}

/// What `openssl` sees of `/livez`.
fn shown(directory: &Path) -> String {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args([
            "s_client",
            "-connect",
            "10.0.0.3:8081",
            "-verify_return_error",
            "-ign_eof",
        ])
        .args(["-verify_ip", "10.0.0.3", "-CAfile"])
        .arg(directory.join("ca.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let request = "GET /livez HTTP/1.1\r\nHost: towpath\r\nConnection: close\r\n\r\n";
    stdin.write_all(request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Server-sent events as they come: connects, and reads until `enough` of them are there.
fn streamed(daemon: &Daemon, token: &str, query: &str, last: Option<u64>, enough: usize) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(AT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
    let request = format!(
        "GET /api/v1/events{query} HTTP/1.1\r\nHost: towpath\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer {token}\r\n{last}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    while text.matches("\ndata: ").count() < enough {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap_or_else(|error| {
            panic!("{error}: {text}\n{}", daemon.log());
        });
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}

fn ids(text: &str) -> Vec<u64> {
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.map(|id| id.parse().unwrap()).collect()
}

#[test]
fn events_come_as_they_happen_and_go_on_where_they_were() {
    let name = "api::events_come_as_they_happen_and_go_on_where_they_were";
    in_private_network(name, || {
        ip(LINKS)?;
        let mut daemon = open("stream", "");
        let token = daemon.token("viewer", "viewer");
        let _one = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let first = streamed(&daemon, &token, "?kind=registration", None, 1);
        assert!(first.contains("content-type: text/event-stream"), "{first}");
        assert!(
            first.contains("\nevent: registration.new\ndata: {"),
            "{first}"
        );
        let seen = ids(&first)[0];
        // Who waits is told.
        let (sender, receiver) = std::sync::mpsc::channel();
        let told = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                sender.send(()).unwrap();
                streamed(&daemon, &token, "?subject=1002@example.com", Some(seen), 1)
            });
            receiver.recv().unwrap();
            let _two = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
            waiting.join().unwrap()
        });
        assert!(told.contains("\"subject\":\"1002@example.com\""), "{told}");
        assert!(ids(&told).iter().all(|id| *id > seen), "{told}");
        // Another daemon counts from one again, and says that something is missing.
        daemon.restart();
        let gap = streamed(&daemon, &token, "", Some(1_000), 2);
        assert!(gap.contains("event: gap\ndata: {\"after\":1000}"), "{gap}");
        assert!(gap.contains("event: registration.restored"), "{gap}");
        let odd = "Accept: text/event-stream\r\nLast-Event-ID: x\r\n";
        let odd = format!("Authorization: Bearer {token}\r\n{odd}");
        let odd = daemon.tcp_with(("GET", "/api/v1/events"), &odd, "");
        assert_eq!(code(&odd), "bad_number");
        let (_, listed) = daemon.ask(&["events", "--kind", "registration", "-o", "jsonl"]);
        assert!(
            listed.lines().all(|line| line.contains("\"registration.")),
            "{listed}"
        );
        // A sample each second.
        clock::until("two samples", LIMIT, || {
            let history = http::get(&daemon.socket(), "/api/v1/history")?;
            let calls = history["series"]["registrations"].as_array();
            Ok(calls
                .filter(|calls| calls.len() >= 2)
                .map(|calls| assert_eq!(calls[1], 2)))
        })
    })
    .unwrap();
}

#[test]
fn the_log_changes_while_it_runs() {
    in_private_network("api::the_log_changes_while_it_runs", || {
        ip(LINKS)?;
        let mut daemon = open("log", "[log]\nlevel = \"warn\"\n");
        assert!(!daemon.log().contains(" running"), "{}", daemon.log());
        let level = |text: &str| (0, format!("level {text}\n"));
        assert_eq!(daemon.ask(&["log", "level"]), level("warn"));
        assert_eq!(daemon.ask(&["log", "level", "info"]), level("info"));
        let (code, told) = daemon.ask(&["log", "level", "loud=="]);
        assert_eq!(code, 1, "{told}");
        let caller = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let callee = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        let call = caller.call(&callee);
        let number = daemon.call();
        let follow = ["log", "calls", &number];
        assert_eq!(
            daemon.ask(&follow),
            level(&format!("info; calls followed: {number}"))
        );
        call.speak();
        let line = format!("INFO call: media.first call={number} ");
        let written = |what: &str| {
            let log = || Ok(daemon.log().contains(what).then_some(()));
            clock::until(what, LIMIT, log).unwrap();
        };
        written(&line);
        let json = format!("{CONFIG}[api]\nlisten = [\"{AT}\"]\n[log]\nformat = \"json\"\n");
        daemon.configure(&json);
        daemon.reloads("\"message\":\"SIGHUP: configuration applied\"");
        assert_eq!(
            daemon.ask(&["log", "level"]),
            level(&format!("info,kernel=warn; calls followed: {number}"))
        );
        Ok(())
    })
    .unwrap();
}
