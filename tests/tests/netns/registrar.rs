//! A real registrar behind us: Kamailio keeps the registrations, baresip phones come through.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use towpath_tests::calls::{self, Flow};
use towpath_tests::clock;
use towpath_tests::lab::{Lab, Parts, Role, plan};
use towpath_tests::netns::Namespace;
use towpath_tests::phone::{Phone, Settings};
use towpath_tests::process::{self, Towpath};

const LIMIT: Duration = Duration::from_secs(20);

/// Kamailio in the core network: asks for passwords, keeps bindings in memory, loose routes.
const REGISTRAR: &str = r#"
#!KAMAILIO
debug=2
log_stderror=yes
children=1
auto_aliases=no
listen=udp:MCU:5060
alias="example.com"
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("registrar", "use_path", 1)
modparam("registrar", "path_mode", 0)
modparam("registrar", "max_expires", 1800)
modparam("usrloc", "db_mode", 0)
request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) { t_relay(); } exit; }
    if (has_totag()) {
        if (loose_route()) { t_relay(); exit; }
        if (is_method("ACK")) { if (t_check_trans()) { t_relay(); } exit; }
        t_relay();
        exit;
    }
    if (is_method("REGISTER")) {
        xlog("L_NOTICE", "asked for $tU by $ct\n");
        if (!pv_www_authenticate("example.com", "secret", "0")) {
            www_challenge("example.com", "1");
            exit;
        }
        xlog("L_NOTICE", "accepted $tU\n");
        save("location");
        exit;
    }
    if (is_method("INVITE")) { record_route(); }
    if (!lookup("location")) { sl_send_reply("404", "Not Found"); exit; }
    t_relay();
}
"#;

/// A process that ends with this.
struct Registrar {
    child: Child,
    log: std::path::PathBuf,
}

impl Registrar {
    fn start(namespace: &Namespace, directory: &Path) -> Self {
        let config = directory.join("kamailio.cfg");
        let mcu = plan::ip(plan::MCU_V4).to_string();
        fs::write(&config, REGISTRAR.trim_start().replace("MCU", &mcu)).unwrap();
        let log = directory.join("kamailio.log");
        let file = File::create(&log).unwrap();
        let mut kamailio = namespace.command("kamailio").unwrap();
        kamailio
            .arg("-f")
            .arg(&config)
            .args(["-DD", "-E", "-m", "32", "-M", "8"]);
        kamailio.arg("-Y").arg(directory);
        kamailio.stdin(Stdio::null());
        kamailio.stderr(file.try_clone().unwrap()).stdout(file);
        let child = kamailio.spawn().expect("Debian package kamailio");
        Self { child, log }
    }

    fn said(&self, what: &str) -> usize {
        fs::read_to_string(&self.log).unwrap().matches(what).count()
    }

    fn says(&self, what: &str) {
        let said = || Ok((self.said(what) > 0).then_some(()));
        let log = || fs::read_to_string(&self.log).unwrap();
        clock::until(what, LIMIT, said).unwrap_or_else(|e| panic!("{e:#}\n{}", log()));
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        // Its workers are its own: all end with it.
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(id, Signal::SIGTERM).ok();
        drop(self.child.wait());
    }
}

fn datapath(mode: &str, lab: &Lab) -> String {
    let object = process::object().unwrap();
    let pin_dir = lab.bpffs().join("towpath");
    format!("[datapath]\nmode = \"{mode}\"\nobject = {object:?}\npin_dir = {pin_dir:?}\n")
}

fn config(by: &str, directory: &Path) -> String {
    format!(
        "[node]\nid = \"lab\"\nstate_dir = {directory:?}\n\n[sip]\ndomain = \"example.com\"\n\
         listen = [\"udp:{wan}:5060\", \"udp:{lan}:5060\", \"udp:{core}:5060\"]\n\n\
         [[sip.peer]]\nname = \"registrar\"\nuri = \"sip:{mcu}:5060\"\nregister = \"forward\"\n\
         register_by = \"{by}\"\n\n\
         [[network]]\nname = \"wan\"\ninterface = \"wan\"\naddress = \"{wan}\"\n\
         peers = [\"0.0.0.0/0\"]\nmedia_ports = \"30000-30199\"\n\n\
         [[network]]\nname = \"lan\"\ninterface = \"lan\"\naddress = \"{lan}\"\n\
         peers = [\"10.1.0.0/24\"]\nmedia_ports = \"20000-20199\"\n\n\
         [[network]]\nname = \"core\"\ninterface = \"core\"\naddress = \"{core}\"\n\
         peers = [\"10.9.0.0/24\"]\nmedia_ports = \"40000-40199\"\n\n\
         ",
        wan = plan::EDGE_WAN,
        lan = plan::EDGE_LAN,
        core = plan::EDGE_CORE,
        mcu = plan::ip(plan::MCU_V4),
    )
}

fn phone(lab: &Lab, role: Role, user: &str, edge: &str, password: &str) -> Phone {
    let settings = Settings {
        user: user.to_owned(),
        domain: "example.com".to_owned(),
        outbound: Some(format!("sip:{edge}:5060")),
        password: Some(password.to_owned()),
        auto_answer: true,
        tone_hz: 440,
        video: None,
        srtp: false,
        ca: None,
    };
    let directory = lab.directory(user).unwrap();
    Phone::start(lab.namespace(role).unwrap(), &directory, &settings).unwrap()
}

/// Behind NAT and in the LAN; both register through us, call each other through the registrar, and
/// go on after we were killed.
fn registrar(by: &str, mode: &str) {
    let parts = Parts {
        nat: true,
        c3: true,
        mcu: true,
        ..Parts::default()
    };
    let lab = Lab::raise(&parts).unwrap();
    let directory = lab.directory("towpath").unwrap();
    let registrar = Registrar::start(lab.namespace(Role::Mcu).unwrap(), &directory);
    let edge = lab.namespace(Role::Edge).unwrap();
    let binary = process::binary().unwrap();
    let config = config(by, &directory) + &datapath(mode, &lab);
    let mut towpath = Towpath::start(edge, &binary, &directory, &config).unwrap();
    let c1 = phone(&lab, Role::C1, "1001", plan::EDGE_WAN, "secret");
    let c3 = phone(&lab, Role::C3, "1003", plan::EDGE_LAN, "secret");
    for phone in [&c1, &c3] {
        phone
            .registered(LIMIT)
            .unwrap_or_else(|e| panic!("{e:#}\n{}", towpath.tail()));
    }
    registrar.says("accepted 1001");
    registrar.says("accepted 1003");
    let kept = match by {
        "contact" => format!("by <sip:1001@{}:5060;tpr=", plan::EDGE_CORE),
        _ => "by <sip:1001-".to_owned(),
    };
    registrar.says(&kept);
    let listed = towpath.get("/api/v1/registrations").unwrap();
    let rows = listed["registrations"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed:#}");
    for row in rows {
        assert_eq!(row["upstream"]["peer"], "registrar", "{row:#}");
        assert!(
            row["upstream"]["expires_s"].as_u64().unwrap() > 1700,
            "{row:#}"
        );
    }
    let natted = rows
        .iter()
        .find(|row| row["aor"] == "1001@example.com")
        .unwrap();
    assert!(natted["expires_s"].as_u64().unwrap() <= 60, "{natted:#}");
    // A wrong password is the registrar's to refuse.
    let c2 = phone(&lab, Role::C2, "1002", plan::EDGE_WAN, "wrong");
    assert!(c2.registered(LIMIT).is_err());
    // Each calls the other, before and after a kill that only the store survives.
    for _ in 0..2 {
        for (from, to, user) in [(&c3, &c1, "1001"), (&c1, &c3, "1003")] {
            for phone in [from, to] {
                phone.forget_events();
            }
            from.call(&format!("sip:{user}@example.com"), LIMIT)
                .unwrap_or_else(|e| panic!("{e:#}\n{}", towpath.tail()));
            to.established(LIMIT).unwrap();
            media_crosses_twice(mode, &towpath);
            from.hangup().unwrap();
            to.closed(LIMIT).unwrap();
            // One that has not ended here either is there again after the kill.
            let ended = || {
                let calls = calls::calls(&towpath.get("/api/v1/calls")?);
                Ok(calls.is_empty().then_some(()))
            };
            clock::until("the calls to end", LIMIT, ended).unwrap();
        }
        towpath.kill().unwrap();
        towpath.restart(edge).unwrap();
    }
}

/// The registrar leaves SDP alone: the call is two calls here, and media goes through both.
fn media_crosses_twice(mode: &str, towpath: &Towpath) {
    let crossed = || {
        let calls = calls::calls(&towpath.get("/api/v1/calls")?);
        let flows: Vec<_> = calls.iter().flat_map(|call| &call.flows).collect();
        let media: Vec<_> = flows.iter().filter(|flow| flow.is_media()).collect();
        let packets = |flow: &&&Flow| match mode {
            "xdp" if flow.path == "xdp" => flow.packets_xdp,
            "xdp" => 0,
            _ => flow.packets_user,
        };
        let flowing = media.iter().filter(|flow| packets(flow) > 50).count();
        Ok((calls.len() == 2 && media.len() == 4 && flowing == 4).then_some(()))
    };
    clock::until("media through both calls", LIMIT, crossed)
        .unwrap_or_else(|e| panic!("{e:#}\n{:#?}", towpath.get("/api/v1/calls")));
}

#[test]
fn a_registrar_reaches_phones_at_contacts_of_ours() {
    for mode in ["userspace", "xdp"] {
        registrar("contact", mode);
    }
}

#[test]
fn a_registrar_reaches_phones_by_path() {
    registrar("path", "userspace");
}
