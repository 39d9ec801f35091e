//! More calls than open files: the daemon refuses them, and goes on answering those who ask it.

use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, setrlimit};

use super::*;

/// Open files of the daemon. An eighth is not for media.
const FILES: u64 = 512;
/// Four media ports each: more than there are files.
const CALLS: usize = 140;
/// Who ask at the same time: fewer than the reserve.
const CLIENTS: usize = 32;

const PEERS: &str = r#"
[[sip.peer]]
name = "trunk"
uri = "sip:10.0.0.20:5070"
[[sip.peer]]
name = "mcu"
uri = "sip:10.0.1.20:5070"
routes = ["9*"]
"#;

#[test]
fn calls_leave_open_files_to_the_api() {
    in_private_network("files::calls_leave_open_files_to_the_api", || {
        ip(LINKS)?;
        // The daemon's: it inherits the limit, and cannot raise it.
        setrlimit(Resource::RLIMIT_NOFILE, FILES, FILES)?;
        let daemon = Daemon::with("files", &format!("{CONFIG}{PEERS}"));
        let [caller, _callee] = ["10.0.0.20:5070", "10.0.1.20:5070"].map(|at| {
            let socket = UdpSocket::bind(at).unwrap();
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            socket
        });
        let mut refused = 0;
        let mut hear = |number: usize, code: u16| {
            let (code, call) = (format!("SIP/2.0 {code} "), format!("files-{number}\r\n"));
            loop {
                let mut answer = [0; 2_048];
                let length = caller.recv(&mut answer).unwrap();
                let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
                refused += usize::from(answer.starts_with("SIP/2.0 503 "));
                if answer.starts_with(&code) && answer.contains(&call) {
                    return refused;
                }
            }
        };
        for number in 0..CALLS {
            caller.send_to(invite(number).as_bytes(), "10.0.0.3:5060")?;
            // One after the other: nothing is lost on the way.
            hear(number, 100);
        }
        // The first had files, the last has none.
        let refused = hear(CALLS - 1, 503);
        assert!(refused < CALLS / 2, "{refused}");
        let failed = || {
            let status = http::get(&daemon.socket(), "/api/v1/status")?;
            let failed = status["counters"]["media_socket.open_failed"].as_u64();
            Ok(failed.filter(|failed| *failed > 0))
        };
        clock::until("calls find no open files", LIMIT, failed)?;
        let open = fs::read_dir(format!("/proc/{}/fd", daemon.child.id()))?.count();
        let media = FILES - FILES / 8;
        assert!(open as u64 <= media + 2, "{open} open files");
        assert!(open as u64 > media - 8, "{open} open files");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| UnixStream::connect(daemon.socket()).unwrap())
            .collect();
        let (code, status) = daemon.ask(&["status"]);
        assert!(code < 3, "{status}");
        drop(clients);
        let events = http::get(&daemon.socket(), "/api/v1/events?since=1")?;
        let events = events.to_string();
        assert!(events.contains("ports.exhausted"), "{events}");
        assert!(events.contains("no_socket"), "{events}");
        Ok(())
    })
    .unwrap();
}

fn invite(number: usize) -> String {
    let sdp = "v=0\r\no=- 1 1 IN IP4 10.0.0.20\r\ns=-\r\nc=IN IP4 10.0.0.20\r\nt=0 0\r\n\
               m=audio 6000 RTP/AVP 0\r\n";
    format!(
        "INVITE sip:9000@example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP 10.0.0.20:5070;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
         From: <sip:1001@example.com>;tag={number}\r\nTo: <sip:9000@example.com>\r\n\
         Call-ID: files-{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:1001@10.0.0.20:5070>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}
