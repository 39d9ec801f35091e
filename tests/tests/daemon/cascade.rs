//! Two servers, linked: who is let in, what is shown, what happens when one is gone.

use std::process::Command as Program;

use towpath_tests::pki::Authority;

use super::*;

#[path = "cascade/share.rs"]
mod share;

const TOKEN: &str = "correct-horse-battery-staple";

/// A server of that name at an address of its own.
fn server(id: &str, address: &str, cascade: &str) -> Daemon {
    let text = format!(
        "[node]\nid = \"{id}\"\nstate_dir = \"DIRECTORY\"\n[sip]\ndomain = \"example.com\"\n\
         auth = \"none\"\n[[network]]\nname = \"lan\"\ninterface = \"eth1\"\n\
         address = \"{address}\"\npeers = [\"10.0.0.0/8\"]\n[datapath]\nmode = \"userspace\"\n\
         {cascade}"
    );
    Daemon::with(id, &text)
}

fn sha256(text: &str) -> String {
    let mut sum = Program::new("sha256sum");
    sum.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut sum = sum.spawn().unwrap();
    std::io::Write::write_all(&mut sum.stdin.take().unwrap(), text.as_bytes()).unwrap();
    let output = sum.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("towpath-cascade-{name}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

impl Daemon {
    fn link(&self) -> Value {
        let links = http::get(&self.socket(), "/api/v1/links").unwrap();
        links["links"][0].clone()
    }

    #[track_caller]
    fn link_becomes(&self, state: &str, why: &str) -> Value {
        let limit = Duration::from_secs(30);
        clock::until(&format!("link {state}: {why}"), limit, || {
            let link = self.link();
            let said = link["why"].as_str().unwrap_or_default().contains(why);
            Ok((link["state"] == state && said).then_some(link))
        })
        .unwrap_or_else(|error| panic!("{error}: {:#}\n{}", self.link(), self.log()))
    }

    fn noted(&self, kind: &str, field: &str) -> bool {
        let events = http::get(&self.socket(), "/api/v1/events").unwrap();
        let mut events = events["events"].as_array().unwrap().iter();
        events.any(|event| event["kind"] == kind && event["fields"].to_string().contains(field))
    }
}

#[test]
fn a_link_by_token_and_its_life() {
    in_private_network("cascade::a_link_by_token_and_its_life", || {
        ip(LINKS)?;
        let files = Files::new("token");
        let token = files.write("token", TOKEN);
        let lower =
            format!("[cascade]\nupper = \"http://10.0.0.3:8443\"\ntoken_file = \"{token}\"\n");
        let upper = format!(
            "[cascade]\nlisten = [\"tcp:10.0.0.3:8443\"]\n[[cascade.lower]]\nid = \"edge-01\"\n\
             token_sha256 = \"{}\"\n",
            sha256(TOKEN)
        );
        let mut core = server("core-01", "10.0.0.3", &upper);
        let edge = server("edge-01", "10.0.1.3", &lower);
        let link = edge.link_becomes("up", "");
        assert_eq!(
            (&link["server"], &link["side"]),
            (&"core-01".into(), &"upper".into())
        );
        let link = core.link_becomes("up", "");
        assert_eq!(
            (&link["server"], &link["side"]),
            (&"edge-01".into(), &"lower".into())
        );
        edge.documented("links", "links");
        let (code, table) = edge.ask(&["peer", "list"]);
        assert_eq!(code, 0, "{table}");
        assert!(
            table.contains("core-01") && table.contains("closed"),
            "{table}"
        );
        let (code, text) = edge.ask(&["peer", "probe", "core-01"]);
        assert_eq!(code, 0, "{text}");
        let metrics = edge.metrics();
        parse_metrics(&metrics);
        for line in [
            "towpath_cascade_link_up{server=\"core-01\",side=\"upper\"} 1",
            "towpath_upstream_breaker_closed 1",
            "towpath_upstream_requests_total{result=\"broken\"} 0",
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
        // The upper one is gone, and back.
        core.kill(|_| {
            edge.link_becomes("down", "");
        });
        edge.link_becomes("up", "");
        core.link_becomes("up", "");
        assert!(edge.noted("link.down", "upper") && edge.noted("link.up", "upper"));
        Ok(())
    })
    .unwrap();
}

#[test]
fn who_proves_nothing_is_refused_and_both_sides_say_why() {
    in_private_network(
        "cascade::who_proves_nothing_is_refused_and_both_sides_say_why",
        || {
            ip(LINKS)?;
            let files = Files::new("refused");
            let wrong = files.write("token", "another-token-altogether");
            let upper = format!(
                "[cascade]\nlisten = [\"tcp:10.0.0.3:8443\"]\n[[cascade.lower]]\nid = \"edge-01\"\n\
                 token_sha256 = \"{}\"\n",
                sha256(TOKEN)
            );
            let core = server("core-01", "10.0.0.3", &upper);
            for (id, reason) in [("edge-01", "wrong_token"), ("edge-02", "unknown_server")] {
                let lower = format!(
                    "[cascade]\nupper = \"http://10.0.0.3:8443\"\ntoken_file = \"{wrong}\"\n"
                );
                let edge = server(id, "10.0.1.3", &lower);
                edge.link_becomes("down", &format!("refused: {reason}"));
                let (_, table) = edge.ask(&["peer", "list", "-o", "json"]);
                assert!(table.contains(reason), "{table}");
                clock::until(reason, LIMIT, || {
                    Ok(core.noted("link.refused", reason).then_some(()))
                })?;
            }
            let refused = "towpath_cascade_link_refused_total{reason=\"wrong_token\"}";
            assert!(core.metrics().contains(refused), "{}", core.metrics());
            assert_eq!(core.link()["state"], "down");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn certificates_on_both_sides() {
    in_private_network("cascade::certificates_on_both_sides", || {
        ip(LINKS)?;
        let files = Files::new("certificates");
        let [ours, theirs] = ["ours", "theirs"].map(|name| {
            let directory = files.0.join(name);
            fs::create_dir(&directory).unwrap();
            Authority::new(&directory).unwrap()
        });
        let core = ours.issue("core", "IP:10.0.0.3", 30)?;
        let section = |issued: &towpath_tests::pki::Issued, rest: &str| {
            format!(
                "[cascade]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n{rest}",
                issued.certificate.display(),
                issued.key.display(),
                ours.certificate().display()
            )
        };
        let upper = section(
            &core,
            "listen = [\"tls:10.0.0.3:8443\"]\n[[cascade.lower]]\nid = \"edge-01\"\n\
             tls_name = \"edge-01.example.com\"\n",
        );
        let core = server("core-01", "10.0.0.3", &upper);
        let good = ours.issue("edge", "DNS:edge-01.example.com", 30)?;
        let other = ours.issue("other", "DNS:edge-02.example.com", 30)?;
        let foreign = theirs.issue("edge", "DNS:edge-01.example.com", 30)?;
        let dial = "upper = \"https://10.0.0.3:8443\"\n";
        for (issued, state, why, noted) in [
            (&foreign, "down", "", "tls"),
            (
                &other,
                "down",
                "refused: wrong_certificate",
                "wrong_certificate",
            ),
            (&good, "up", "", ""),
        ] {
            let edge = server("edge-01", "10.0.1.3", &section(issued, dial));
            if noted != "tls" {
                edge.link_becomes(state, why);
            }
            if !noted.is_empty() {
                clock::until(noted, LIMIT, || {
                    Ok(core.noted("link.refused", noted).then_some(()))
                })?;
                let link = edge.link();
                assert_eq!(link["state"], "down", "{link:#}");
                edge.link_becomes("down", if noted == "tls" { "alert" } else { why });
            }
        }
        // One whose certificate nobody we believe has issued.
        let trusting = format!(
            "[cascade]\ncertificate = \"{}\"\nkey = \"{}\"\nca = \"{}\"\n{dial}",
            good.certificate.display(),
            good.key.display(),
            theirs.certificate().display()
        );
        let edge = server("edge-01", "10.0.1.3", &trusting);
        edge.link_becomes("down", "certificate");
        Ok(())
    })
    .unwrap();
}
