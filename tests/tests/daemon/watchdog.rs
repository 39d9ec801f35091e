//! What a service manager that watches the daemon hears.

use super::*;

#[test]
fn a_loop_that_works_says_so() {
    in_private_network("watchdog::a_loop_that_works_says_so", || {
        ip(LINKS)?;
        let mut daemon = Daemon::start("watchdog");
        daemon.signal(Signal::SIGTERM);
        // Nobody watches: nothing is said of it.
        assert_eq!(daemon.told(), "STOPPING=1");
        daemon.child.wait()?;

        let log = fs::File::create(daemon.directory.join("log"))?;
        let mut watched = spawn(&daemon.directory, log);
        daemon.child = watched.env("WATCHDOG_USEC", "10000000").spawn()?;
        assert_eq!(daemon.told(), "READY=1");
        for _ in 0..3 {
            assert_eq!(daemon.told(), "WATCHDOG=1");
        }
        Ok(())
    })
    .unwrap();
}
