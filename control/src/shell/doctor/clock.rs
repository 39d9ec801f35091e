//! Whether the clock follows somebody: whoever keeps it is asked.

use std::path::Path;
use std::time::Duration;

use super::command;
use crate::doctor::facts::Clock;

pub(super) async fn read() -> Clock {
    if let Ok(text) = command::output("chronyc", &["-c", "tracking"]).await {
        return chrony(&text);
    }
    let asked = ["show", "--property=NTPSynchronized", "--value"];
    if let Ok(text) = command::output("timedatectl", &asked).await {
        return Clock {
            by: Some("timedatectl"),
            synchronised: match text.trim() {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            offset: None,
        };
    }
    let mark = Path::new("/run/systemd/timesync/synchronized").exists();
    Clock {
        by: mark.then_some("systemd-timesyncd"),
        synchronised: mark.then_some(true),
        offset: None,
    }
}

/// Fields of `chronyc -c tracking`: the fifth is the offset, the last the leap status.
fn chrony(text: &str) -> Clock {
    let fields: Vec<&str> = text.trim().split(',').collect();
    let offset = fields.get(4).and_then(|text| text.parse::<f64>().ok());
    Clock {
        by: Some("chronyc"),
        synchronised: fields.last().map(|status| *status != "Not synchronised"),
        offset: offset.and_then(|s| Duration::try_from_secs_f64(s.abs()).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chrony_says() {
        let line = "C0A80101,192.168.1.1,3,1700000000.1,-0.000021,0.1,0.2,1,0.1,2,0.1,0.2,64.4,";
        let good = chrony(&format!("{line}Normal\n"));
        assert_eq!(good.synchronised, Some(true));
        assert_eq!(good.offset, Some(Duration::from_micros(21)));
        assert_eq!(
            chrony(&format!("{line}Not synchronised")).synchronised,
            Some(false)
        );
    }
}
