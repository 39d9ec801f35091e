//! A node is drained, shows it, and takes calls again.

use super::*;

#[test]
fn a_node_is_drained_and_takes_calls_again() {
    in_private_network("drain::a_node_is_drained_and_takes_calls_again", || {
        ip(LINKS)?;
        let daemon = Daemon::with("drain", CONFIG);
        let gauge = |value: u8| {
            let line = format!("towpath_draining {value}");
            daemon.metrics().lines().any(|found| found == line)
        };
        assert!(gauge(0));
        daemon.documented("drain", "drain");
        let none = "drained: no calls are left, none are taken\n";
        assert_eq!(daemon.ask(&["drain"]), (0, none.to_owned()));
        let status = daemon.documented("status", "status");
        assert_eq!(status["drain"]["draining"], true, "{status:#}");
        assert_eq!(status["drain"]["ends_calls_in_s"], Value::Null);
        assert!(gauge(1));
        // Whoever asks before it sends calls here is told.
        assert_eq!(options()?, "SIP/2.0 503 Service Unavailable");
        let left = daemon.ask(&["drain", "--deadline", "10m", "--no-wait"]);
        let taken = "no new calls are taken; `towpath undrain` ends that\n";
        assert_eq!(left, (0, taken.to_owned()));
        let drain = daemon.documented("drain", "drain");
        let seconds = drain["ends_calls_in_s"].as_u64().unwrap();
        assert!((590..=600).contains(&seconds), "{drain:#}");
        let again = (0, "new calls are taken again\n".to_owned());
        assert_eq!(daemon.ask(&["undrain"]), again);
        assert!(gauge(0));
        assert_eq!(options()?, "SIP/2.0 200 OK");
        let (code, said) = daemon.ask(&["drain", "--deadline", "soon"]);
        assert_eq!(code, 64);
        assert!(said.contains("`soon` is not a time"), "{said}");
        Ok(())
    })
    .unwrap();
}

/// The first line of the answer to an OPTIONS.
fn options() -> anyhow::Result<String> {
    let peer = UdpSocket::bind("10.0.0.20:5070")?;
    peer.set_read_timeout(Some(LIMIT))?;
    let request = "OPTIONS sip:10.0.0.3 SIP/2.0\r\n\
                   Via: SIP/2.0/UDP 10.0.0.20:5070;branch=z9hG4bK-BRANCH\r\n\
                   From: <sip:a@example.com>;tag=1\r\nTo: <sip:10.0.0.3>\r\n\
                   Call-ID: options-BRANCH\r\nCSeq: 1 OPTIONS\r\n\
                   Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    static ASKED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let branch = ASKED
        .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
        .to_string();
    peer.send_to(
        request.replace("BRANCH", &branch).as_bytes(),
        "10.0.0.3:5060",
    )?;
    let mut buffer = [0; 2048];
    let length = peer.recv(&mut buffer)?;
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or(&[])).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
