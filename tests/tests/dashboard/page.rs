//! The page in the browser, beside the API it shows.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use towpath_tests::browser::Browser;
use towpath_tests::demo::config::DOMAIN;
use towpath_tests::{clock, http};

use super::stage::Stage;

pub(crate) const LIMIT: Duration = Duration::from_secs(15);
const PAGE: &str = "http://127.0.0.1:8080/";
const FIRST_PAINT_MS_MAX: f64 = 1_000.0;
const LOADS: u32 = 3;
const BYTES_MAX: u64 = 500_000;

pub(crate) struct Page<'a> {
    pub(crate) browser: &'a Browser<'a>,
    stage: &'a Stage,
    /// Parts of addresses the console may complain about.
    refusals: RefCell<Vec<String>>,
}

impl<'a> Page<'a> {
    pub(crate) fn open(browser: &'a Browser<'a>, stage: &'a Stage) -> Self {
        browser.size(1280, 900).unwrap();
        browser.open(PAGE).unwrap();
        Self {
            browser,
            stage,
            refusals: RefCell::default(),
        }
    }

    /// A token of a role.
    pub(crate) fn token(&self, name: &str, role: &str) -> String {
        let order = serde_json::json!({ "name": name, "role": role }).to_string();
        let token = self.refused("POST", "tokens", &order)["token"].clone();
        token.as_str().unwrap().to_owned()
    }

    pub(crate) fn sign_in(&self, token: &str, keep: bool) {
        self.write("dialog input[type=password]", token);
        if keep {
            self.click("dialog input[type=checkbox]");
        }
        self.press("dialog", "Sign in");
    }

    /// Loads the page anew, at a view.
    pub(crate) fn reload(&self, view: &str) {
        // Another query: an address that differs behind the # only is the same page.
        let number = self.value("Math.round(performance.timeOrigin)");
        self.browser
            .open(&format!("{PAGE}?{number}#/{view}"))
            .unwrap();
        self.shown(view);
    }

    /// Goes to a view by its link.
    pub(crate) fn go(&self, view: &str) {
        self.click(&format!("nav a[href='#/{view}']"));
        self.shown(view);
    }

    /// Waits until a view stands, with what the API answered.
    pub(crate) fn shown(&self, view: &str) {
        let there = format!(
            "(location.hash || '#/overview').startsWith('#/{view}') && \
             document.querySelector('main[aria-busy=false] h1')?.innerText"
        );
        self.browser.until(&there, LIMIT).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.stage.towpath.get(&format!("/api/v1/{path}")).unwrap()
    }

    /// What the API answers, be it a refusal.
    pub(crate) fn refused(&self, method: &str, path: &str, body: &str) -> Value {
        let path = format!("/api/v1/{path}");
        http::send(self.stage.towpath.socket(), method, &path, "", body)
            .unwrap()
            .body
    }

    pub(crate) fn domain(&self) -> &'static str {
        DOMAIN
    }

    pub(crate) fn value(&self, expression: &str) -> Value {
        self.browser.value(expression).unwrap()
    }

    /// Texts of elements.
    pub(crate) fn list(&self, elements: &str) -> Vec<String> {
        let texts = self.value(&format!("[...{elements}].map(e => e.innerText)"));
        serde_json::from_value(texts).unwrap()
    }

    /// The cells of a table's rows, each in one line.
    pub(crate) fn rows(&self, table: &str) -> Vec<Vec<String>> {
        let rows = self.value(&format!(
            "[...document.querySelectorAll('table[data-name=\"{table}\"] tbody tr')]\
             .map(row => [...row.cells].map(cell => cell.innerText.replaceAll('\\n', '')))"
        ));
        serde_json::from_value(rows).unwrap()
    }

    /// The value beside a name in a list of facts.
    pub(crate) fn fact(&self, within: &str, name: &str) -> String {
        let value = self.value(&format!(
            "[...document.querySelectorAll('{within} dt')]\
             .find(dt => dt.innerText === '{name}')?.nextElementSibling.innerText ?? ''"
        ));
        value.as_str().unwrap().replace('\n', "")
    }

    pub(crate) fn until_rows(&self, table: &str, wanted: impl Fn(&[Vec<String>]) -> bool) {
        let mut rows = Vec::new();
        clock::until(table, LIMIT, || {
            rows = self.rows(table);
            Ok(wanted(&rows).then_some(()))
        })
        .unwrap_or_else(|e| panic!("{e:#}: {rows:#?}"));
    }

    /// Waits until this text is seen.
    pub(crate) fn says(&self, text: &str) {
        let quoted = Value::from(text);
        let seen = format!("document.body.innerText.includes({quoted})");
        if let Err(e) = self.browser.until(&seen, LIMIT) {
            panic!("{e:#} in\n{}", self.value("document.body.innerText"));
        }
    }

    pub(crate) fn click(&self, selector: &str) {
        self.browser.click(selector).unwrap();
    }

    /// Clicks the button that says so.
    pub(crate) fn press(&self, within: &str, words: &str) {
        let found = format!(
            "[...document.querySelectorAll('{within} button')].filter(b => !b.disabled && \
             b.innerText === '{words}').slice(-1).map(b => b.click() ?? true)[0]"
        );
        self.browser.until(&found, LIMIT).unwrap();
    }

    /// Puts text into a field instead of what is there, as typing does.
    pub(crate) fn write(&self, selector: &str, text: &str) {
        self.click(selector);
        self.value(&format!("document.querySelector('{selector}').select()"));
        // Backspace, for a text that is empty.
        let text = if text.is_empty() { "\u{e003}" } else { text };
        self.browser.write(selector, text).unwrap();
    }

    /// A picture for the documentation.
    pub(crate) fn picture(&self, name: &str) {
        if let Some(directory) = std::env::var_os("TOWPATH_PICTURES") {
            let file = PathBuf::from(directory).join(format!("{name}.png"));
            self.browser.picture(&file).unwrap();
        }
    }

    /// A picture for whoever wants to look at every view: into the directory `TOWPATH_LOOK`.
    pub(crate) fn look(&self, name: &str) {
        if let Some(directory) = std::env::var_os("TOWPATH_LOOK") {
            let name = name.replace(['/', ' ', ',', '~'], "_");
            let file = PathBuf::from(directory).join(format!("{name}.png"));
            self.browser.picture(&file).unwrap();
        }
    }

    /// The quickest of a few loads: a test beside it may hold the processors.
    pub(crate) fn first_paint(&self) {
        let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
        let loads = (0..LOADS).map(|load| {
            self.browser.open(&format!("{PAGE}?load={load}")).unwrap();
            self.browser.until(paint, LIMIT).unwrap().as_f64().unwrap()
        });
        let loads: Vec<f64> = loads.collect();
        eprintln!("first paint after {loads:?} ms");
        assert!(
            loads.iter().any(|ms| *ms < FIRST_PAINT_MS_MAX),
            "{loads:?} ms"
        );
    }

    /// The page, and the data it has asked for until now.
    pub(crate) fn assert_small(&self, view: &str) {
        let bytes = self.value(
            "['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))\
             .reduce((sum, entry) => sum + entry.encodedBodySize, 0)",
        );
        let bytes = bytes.as_u64().unwrap();
        eprintln!("{view}: {bytes} bytes");
        assert!((1..BYTES_MAX).contains(&bytes), "{view}: {bytes}");
    }

    /// The browser itself reports a refusal that is asked for.
    pub(crate) fn expects_refusal(&self, path: &str) {
        self.refusals.borrow_mut().push(path.to_owned());
    }

    pub(crate) fn assert_console_quiet(&self) {
        let known = self.refusals.borrow();
        let mut lines = self.browser.console().unwrap();
        lines.retain(|line| {
            let is_refusal = line.contains("Failed to load resource: the server responded with");
            !(is_refusal && known.iter().any(|path| line.contains(path)))
        });
        assert!(lines.is_empty(), "{lines:#?}");
    }
}
