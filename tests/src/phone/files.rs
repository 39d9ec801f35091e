//! baresip's configuration and the tone it plays.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{CONTROL, Codec, Settings};
use crate::wav;

/// How long the tone lasts; a call that outlives it falls silent.
const TONE_LENGTH: Duration = Duration::from_secs(300);

/// Seconds between registrations.
const REGISTER_EVERY_S: u32 = 60;

/// Where Debian puts the modules.
const MODULES: &str = "/usr/lib/baresip/modules";

pub(super) fn write(directory: &Path, settings: &Settings) -> Result<()> {
    let tone = directory.join("tone.wav");
    wav::write_tone(&tone, f64::from(settings.tone_hz), TONE_LENGTH)?;
    let video = settings.video.map_or(String::new(), |codec| {
        let module = match codec {
            Codec::Vp8 => "vp8",
            Codec::H264 => "avcodec",
        };
        format!("module {module}.so\n{VIDEO}")
    });
    let srtp = if settings.srtp {
        "module srtp.so\n"
    } else {
        ""
    };
    let ca = settings.ca.as_ref();
    let ca = ca.map_or(String::new(), |ca| {
        format!("sip_verify_server yes\nsip_cafile {}\n", ca.display())
    });
    let (directory_text, tone) = (directory.display(), tone.display());
    let config = format!(
        "poll_method epoll
sip_listen 0.0.0.0:5060
{ca}module_path {MODULES}
module g711.so
module aufile.so
module sndfile.so
{video}{srtp}module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {CONTROL}
audio_player aufile,/dev/null
audio_source aufile,{tone}
audio_alert aufile,/dev/null
ausrc_srate {rate}
auplay_srate {rate}
ausrc_channels 1
auplay_channels 1
snd_path {directory_text}
rtcp_mux no
rtp_ports 10000-10999
",
        rate = wav::RATE_HZ
    );
    // The account comes over the control socket, so that no event is missed.
    for (name, text) in [
        ("config", config.as_str()),
        ("accounts", ""),
        ("contacts", ""),
    ] {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

const VIDEO: &str = "module fakevideo.so
video_source fakevideo,nil
video_display fakevideo,nil
video_size 320x240
video_fps 25
video_bitrate 256000
";

/// The account in baresip's words.
pub(super) fn account(settings: &Settings) -> String {
    let Settings { user, domain, .. } = settings;
    let mut account = format!("<sip:{user}@{domain}>");
    match &settings.password {
        Some(password) => {
            account += &format!(";auth_user={user};auth_pass={password}");
            account += &format!(";regint={REGISTER_EVERY_S}");
        }
        None => account += ";regint=0",
    }
    if let Some(outbound) = &settings.outbound {
        account += &format!(";outbound=\"{outbound}\"");
    }
    if settings.auto_answer {
        account += ";answermode=auto";
    }
    if settings.srtp {
        account += ";mediaenc=srtp-mand";
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &Settings, expected: &str) {
        assert_eq!(account(settings), expected);
    }

    #[test]
    fn accounts_are_spelt() {
        let plain = Settings {
            user: "1001".into(),
            domain: "10.0.0.1".into(),
            outbound: None,
            password: None,
            auto_answer: false,
            tone_hz: 440,
            video: None,
            srtp: false,
            ca: None,
        };
        check(&plain, "<sip:1001@10.0.0.1>;regint=0");
        let full = Settings {
            domain: "example.com".into(),
            outbound: Some("sip:10.0.0.1:5060".into()),
            password: Some("x".into()),
            auto_answer: true,
            srtp: true,
            ..plain
        };
        check(
            &full,
            "<sip:1001@example.com>;auth_user=1001;auth_pass=x;regint=60\
             ;outbound=\"sip:10.0.0.1:5060\";answermode=auto;mediaenc=srtp-mand",
        );
    }
}
