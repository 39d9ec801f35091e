//! A browser without a window, driven over WebDriver (W3C) by HTTP: all the dashboard's test needs
//! of it. It lives in a namespace of the lab, and so reaches nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::{clock, http};

/// How long the browser may take for one order.
const ORDER_LIMIT: Duration = Duration::from_secs(30);
const DRIVER: &str = "chromedriver";
const BROWSER: &str = "/usr/bin/chromium";

/// As root, and with nothing said to anybody outside.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
];

/// One window of one browser; ended on drop.
#[derive(Debug)]
pub struct Browser<'n> {
    namespace: &'n Namespace,
    driver: Child,
    at: SocketAddr,
    session: String,
    _home: Scratch,
}

impl<'n> Browser<'n> {
    /// Starts it in `namespace`; its profile lies in a directory of its own.
    ///
    /// # Errors
    /// It is not installed (`cargo xtask setup`), or does not start.
    pub fn start(namespace: &'n Namespace) -> Result<Self> {
        let home = Scratch::create(&format!("towpath-browser-{}", std::process::id()))?;
        let mut driver = namespace
            .command(DRIVER)?
            .arg("--port=0")
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("chromedriver does not start: run `cargo xtask setup`")?;
        let port = port(&mut driver)?;
        let mut this = Self {
            namespace,
            driver,
            at: (Ipv4Addr::LOCALHOST, port).into(),
            session: String::new(),
            _home: home,
        };
        let profile = format!(
            "--user-data-dir={}",
            this._home.path().join("profile").display()
        );
        let flags: Vec<&str> = FLAGS.into_iter().chain([&*profile]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": BROWSER, "args": flags },
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let begun = this.order("POST", "/session", &wanted)?;
        let session = begun.get("sessionId").and_then(Value::as_str);
        this.session = session.context("a session has an id")?.to_owned();
        Ok(this)
    }

    /// Goes to an address, and waits until it is loaded.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn open(&self, url: &str) -> Result<()> {
        self.of_session("POST", "/url", &json!({ "url": url }))
            .map(drop)
    }

    /// What an expression of JavaScript is.
    ///
    /// # Errors
    /// It throws.
    pub fn value(&self, expression: &str) -> Result<Value> {
        let script = json!({ "script": format!("return {expression}"), "args": [] });
        self.of_session("POST", "/execute/sync", &script)
            .with_context(|| expression.to_owned())
    }

    /// Waits until an expression is neither false, null nor empty; what it is then.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub fn until(&self, expression: &str, limit: Duration) -> Result<Value> {
        clock::until(expression, limit, || {
            let value = self.value(expression)?;
            let is_there = !matches!(value, Value::Null | Value::Bool(false)) && value != "";
            Ok(is_there.then_some(value))
        })
    }

    /// Clicks as a mouse does, where the middle of the element is.
    ///
    /// # Errors
    /// There is no such element, or another one lies over it.
    pub fn click(&self, selector: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.of_session("POST", &format!("/element/{element}/click"), &json!({}))
            .map(drop)
            .with_context(|| selector.to_owned())
    }

    /// Types into a field, after what is there.
    ///
    /// # Errors
    /// There is no such field.
    pub fn write(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector)?;
        let path = format!("/element/{element}/value");
        self.of_session("POST", &path, &json!({ "text": text }))
            .map(drop)
            .with_context(|| selector.to_owned())
    }

    /// Presses keys wherever the focus is: `\u{e004}` is Tab (WebDriver §17.4.2).
    ///
    /// # Errors
    /// The driver refuses.
    pub fn press(&self, keys: &str) -> Result<()> {
        let strokes = keys.chars().flat_map(|key| {
            let key = key.to_string();
            [
                json!({ "type": "keyDown", "value": key }),
                json!({ "type": "keyUp", "value": key }),
            ]
        });
        let actions: Vec<Value> = strokes.collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.of_session("POST", "/actions", &actions).map(drop)
    }

    /// What the console was told since it was asked last.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn console(&self) -> Result<Vec<String>> {
        let log = self.of_session("POST", "/se/log", &json!({ "type": "browser" }))?;
        let lines = log.as_array().map_or(&[][..], Vec::as_slice).iter();
        let text = |line: &Value, name: &str| line.get(name).map(Value::to_string);
        let said = |line: &Value| [text(line, "level"), text(line, "message")];
        Ok(lines
            .map(|line| {
                said(line)
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(": ")
            })
            .collect())
    }

    /// Gives the page that many pixels.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn size(&self, width: u32, height: u32) -> Result<()> {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.protocol("Emulation.setDeviceMetricsOverride", &size)
            .map(drop)
    }

    /// What the system prefers: `("prefers-color-scheme", "dark")`.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn prefer(&self, feature: &str, value: &str) -> Result<()> {
        let features = json!({ "features": [{ "name": feature, "value": value }] });
        self.protocol("Emulation.setEmulatedMedia", &features)
            .map(drop)
    }

    /// A message of the DevTools protocol.
    ///
    /// # Errors
    /// The browser refuses.
    pub fn protocol(&self, command: &str, parameters: &Value) -> Result<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        self.of_session("POST", "/goog/cdp/execute", &body)
            .with_context(|| command.to_owned())
    }

    /// Writes what is seen as PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn picture(&self, file: &Path) -> Result<()> {
        let shot = self.of_session("GET", "/screenshot", &Value::Null)?;
        let bytes = base64(shot.as_str().context("a picture is text")?)?;
        fs::write(file, bytes).with_context(|| file.display().to_string())
    }

    fn element(&self, selector: &str) -> Result<String> {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self
            .of_session("POST", "/element", &by)
            .with_context(|| selector.to_owned())?;
        let id = found.as_object().and_then(|found| found.values().next());
        Ok(id
            .and_then(Value::as_str)
            .context("an element has an id")?
            .to_owned())
    }

    fn of_session(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.order(method, &format!("/session/{}{path}", self.session), body)
    }

    fn order(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let at = self.at;
        let mut stream = self.namespace.enter(|| TcpStream::connect(at))??;
        stream.set_read_timeout(Some(ORDER_LIMIT))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let answer = read(&mut stream).with_context(|| format!("{method} {path}"))?;
        let (status, mut body) = http::document(&answer)?;
        let value = body.pointer_mut("/value").map(Value::take);
        let value = value.context("an answer has a value")?;
        let said = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        if status != 200 {
            bail!("{method} {path}: {}: {}", said("error"), said("message"));
        }
        Ok(value)
    }
}

/// A whole answer: the driver may keep the connection, whatever it is asked.
fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = vec![0; 65_536];
    while !http::is_whole(&answer) {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        answer.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    Ok(answer)
}

/// The port it chose, which it prints.
fn port(driver: &mut Child) -> Result<u16> {
    let output = driver.stdout.take().context("its output is ours")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        let port = line.strip_prefix("ChromeDriver was started successfully on port ");
        if let Some(port) = port {
            return Ok(port.trim_end_matches('.').parse()?);
        }
    }
    bail!("chromedriver ended before it listened")
}

/// RFC 4648 §4.
fn base64(text: &str) -> Result<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|known| *known == letter);
        let value = u32::try_from(value.context("a letter of base64")?)?;
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff)?);
        }
    }
    Ok(bytes)
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // The window first: the driver ends its browser with it.
        if let Err(e) = self.of_session("DELETE", "", &Value::Null) {
            eprintln!("browser: {e:#}");
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes);
        }
        assert!(base64("!").is_err());
    }
}
