//! The first configuration, from what a host looks like.

use std::fs;

use towpath_tests::private::{in_private_network, ip};

use super::{Scratch, check, text, towpath};

const LINKS: &str = "link add eth0 type veth peer name far0\n\
                     link add eth1 type veth peer name far1\n\
                     link set far0 up\nlink set far1 up\nlink set eth0 up\nlink set eth1 up\n\
                     address add 203.0.113.10/24 dev eth0\naddress add 10.1.0.1/24 dev eth1\n\
                     route add default via 203.0.113.1";

#[test]
fn what_init_writes_is_accepted_as_it_is() {
    in_private_network("init::what_init_writes_is_accepted_as_it_is", || {
        ip(LINKS)?;
        let scratch = Scratch::new("init");
        let file = scratch.0.join("etc/towpath.toml");
        let file = file.to_str().unwrap();
        let written = towpath(&["init", file]).output()?;
        let said = text(&written.stderr);
        assert_eq!(written.status.code(), Some(0), "{said}");
        assert_eq!(text(&written.stdout), "");
        let assumed = "assumed: network wan: eth0 (203.0.113.10) has a public address and the \
                       default route: everybody belongs here\n";
        assert!(said.contains(assumed), "{said}");
        let good = format!("{file}: ok; networks: wan, lan; accounts: 0\n");
        check(&["check", file], 0, &good, "");

        // Accounts can be had with it, where nothing but comments stands.
        fs::write(file, "# Towpath is not configured yet.\n\n")?;
        let written =
            towpath(&["init", file, "--account", "1001", "--account", "1002"]).output()?;
        let said = text(&written.stderr);
        assert_eq!(written.status.code(), Some(0), "{said}");
        let good = format!("{file}: ok; networks: wan, lan; accounts: 2\n");
        check(&["check", file], 0, &good, "");
        let set = fs::read_to_string(file)?;
        let words = said.lines().filter_map(|l| l.split_once(": password "));
        let words: Vec<_> = words.map(|(_, word)| word).collect();
        assert_eq!(words.len(), 2, "{said}");
        assert_ne!(words[0], words[1]);
        for word in words {
            assert_eq!(word.len(), 16);
            assert!(set.contains(&format!("password = \"{word}\"\n")), "{set}");
        }

        // What is there stays there.
        fs::write(file, "mine = 1")?;
        let refused = format!(
            "error: {file} is there already: name another file, print with `towpath init -`, or \
             write over it with --force\n"
        );
        check(&["init", file], 1, "", &refused);
        assert_eq!(fs::read_to_string(file)?, "mine = 1");
        let forced = towpath(&["init", "--force", file]).output()?;
        assert_eq!(forced.status.code(), Some(0));
        let printed = towpath(&["init", "-"]).output()?;
        assert_eq!(text(&printed.stdout), fs::read_to_string(file)?);
        Ok(())
    })
    .unwrap();
}

#[test]
fn doctor_knows_its_checks_and_prints_no_progress() {
    let unknown = towpath(&["doctor", "--check", "fw.nfs"]).output().unwrap();
    let said = text(&unknown.stderr);
    assert!(
        said.starts_with("error: there is no check `fw.nfs`: choose of config, "),
        "{said}"
    );
    assert_eq!(unknown.status.code(), Some(3), "it could not be asked");
    let missing = "error: cannot read /no/such/file: name a file that exists and that this user \
                   may read\n  because: No such file or directory (os error 2)\n";
    let socket = ["--socket", "/no/such/socket"];
    let asked = [&["doctor", "--config", "/no/such/file"], &socket[..]].concat();
    check(&asked, 3, "", missing);
}
