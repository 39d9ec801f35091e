//! Who is registered outlives the daemon.

use super::*;

/// Killed right after an answer, a hundred times: nobody who was answered is forgotten.
#[test]
fn an_answered_registration_survives_a_kill() {
    in_private_network("store::an_answered_registration_survives_a_kill", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("kill");
        let phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        let other = Phone::register(&daemon, "1002", "10.0.1.20", "10.0.1.3");
        for cseq in 2..KILLS + 2 {
            let user = format!("u{cseq}");
            phone.request("REGISTER", "sip:example.com", &user, cseq, "", "");
            phone.receive("SIP/2.0 200");
            daemon.kill(|_| ());
            let aors = aors(&daemon);
            let expected = usize::try_from(cseq).unwrap() + 1;
            assert_eq!(aors.len(), expected, "{cseq}: {aors:?}");
            assert!(aors.contains(&format!("{user}@example.com")), "{aors:?}");
        }
        let (code, status) = daemon.ask(&["status"]);
        assert_eq!(code, 0, "{status}");
        // Calls find their way.
        let call = phone.call(&other);
        call.speak();
        Ok(())
    })
    .unwrap();
}

const KILLS: u32 = 100;

/// A file that is damaged is moved aside and named; the daemon starts, and the file is whole again.
#[test]
fn a_damaged_store_is_moved_aside_and_named() {
    in_private_network("store::a_damaged_store_is_moved_aside_and_named", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("damaged");
        let phone = Phone::register(&daemon, "1001", "10.0.0.20", "10.0.0.3");
        daemon.kill(|directory| fs::write(directory.join("state.redb"), "oops").unwrap());
        assert_eq!(aors(&daemon), [""; 0]);
        let (code, status) = daemon.ask(&["status"]);
        assert_eq!(code, 1, "{status}");
        assert!(status.contains("state.redb.unusable-"), "{status}");
        phone.request("REGISTER", "sip:example.com", "1001", 2, "", "");
        phone.receive("SIP/2.0 200");
        daemon.kill(|_| ());
        assert_eq!(aors(&daemon), ["1001@example.com"]);
        assert_eq!(daemon.ask(&["status"]).0, 0);
        Ok(())
    })
    .unwrap();
}

fn aors(daemon: &Daemon) -> Vec<String> {
    let (_, text) = daemon.ask(&["reg", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&text).unwrap();
    let rows = listed["registrations"].as_array().unwrap();
    let aor = |row: &Value| row["aor"].as_str().unwrap().to_owned();
    rows.iter().map(aor).collect()
}
