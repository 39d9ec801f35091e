//! Both languages, both schemes, both widths; names for those who listen, keys for those who have
//! no mouse.

use serde_json::{Value, json};

use super::page::{LIMIT, Page};
use super::reach;

const VIEWS: [&str; 11] = [
    "overview",
    "calls",
    "registrations",
    "conferences",
    "events",
    "networks",
    "datapath",
    "cascade",
    "doctor",
    "configuration",
    "audit",
];

/// Least contrast of text with what is behind it (WCAG 2.2, 1.4.3).
const CONTRAST_MIN: f64 = 4.5;

/// Every view in each language, scheme and width.
pub(crate) fn everywhere(page: &Page<'_>, details: &[String]) {
    // Any two of the three meet.
    for (language, scheme, width) in [
        ("en", "light", 1280),
        ("zh", "dark", 1280),
        ("en", "dark", 390),
        ("zh", "light", 390),
    ] {
        page.browser.prefer("prefers-color-scheme", scheme).unwrap();
        page.browser.size(width, 900).unwrap();
        page.value(&format!(
            "localStorage.setItem('towpath.language', '{language}')"
        ));
        for view in VIEWS.into_iter().chain(details.iter().map(String::as_str)) {
            page.reload(view);
            let name = format!("{view} in {language}, {scheme}, {width} px");
            page.assert_small(view);
            assert_no_sideways(page, &name, width);
            assert_contrast(page, &name);
            assert_named(page, &name);
            reach::assert_sound(page, &name);
            assert_language(page, language, &name);
            page.look(&name);
            if (language, scheme, view) == ("en", "dark", "overview") {
                page.picture("dashboard-narrow");
            }
        }
    }
    page.browser
        .prefer("prefers-color-scheme", "light")
        .unwrap();
    page.browser.size(1280, 900).unwrap();
    switches(page);
}

/// The switches say what they are, and do it at once.
fn switches(page: &Page<'_>) {
    page.reload("overview");
    let choose = |index: u32, value: &str| {
        page.value(&format!(
            "(s => {{ s.value = '{value}'; s.dispatchEvent(new Event('change')); return true }})\
             (document.querySelectorAll('header select')[{index}])"
        ));
    };
    let ground = || page.value("getComputedStyle(document.body).backgroundColor");
    let light = ground();
    choose(1, "dark");
    assert_ne!(ground(), light);
    choose(1, "auto");
    assert_eq!(ground(), light);
    choose(0, "zh");
    page.says("本节点检查的各项均正常。");
    assert_eq!(page.value("document.documentElement.lang"), "zh-CN");
    choose(0, "en");
    page.says("Everything this node looks at is in order.");
}

/// Only tables and the like scroll sideways, in frames of their own.
fn assert_no_sideways(page: &Page<'_>, name: &str, width: u32) {
    let wide = page
        .value("document.documentElement.scrollWidth")
        .as_u64()
        .unwrap();
    assert!(wide <= u64::from(width), "{name}: {wide} px wide");
}

fn assert_contrast(page: &Page<'_>, name: &str) {
    let poor = page.value(&format!("({CONTRAST})({CONTRAST_MIN})"));
    assert_eq!(poor, json!([]), "{name}");
}

const CONTRAST: &str = "least => {
  const parse = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(':disabled')) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least) poor.push(`${texts.currentNode.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return poor;
}";

/// Whatever can be used has a name, and the page has its landmarks.
fn assert_named(page: &Page<'_>, name: &str) {
    const USED: [&str; 6] = [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
    ];
    let tree = page
        .browser
        .protocol("Accessibility.getFullAXTree", &json!({}))
        .unwrap();
    let nodes = tree["nodes"].as_array().unwrap();
    let role = |node: &Value| {
        node["role"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for node in nodes.iter().filter(|node| node["ignored"] != true) {
        if USED.contains(&&*role(node)) {
            let text = node["name"]["value"].as_str().unwrap_or_default();
            assert!(!text.trim().is_empty(), "{name}: {node:#}");
        }
    }
    for landmark in ["banner", "navigation", "main", "heading"] {
        assert!(
            nodes.iter().any(|node| role(node) == landmark),
            "{name}: no {landmark}"
        );
    }
    assert_eq!(
        page.value("document.querySelectorAll('h1').length"),
        1,
        "{name}"
    );
}

/// In Chinese no heading and no button is left in English.
fn assert_language(page: &Page<'_>, language: &str, name: &str) {
    let seen = page.list("document.querySelectorAll('h1, nav a, header button, th, dt')");
    assert!(!seen.is_empty());
    for text in seen.iter().filter(|text| !text.trim().is_empty()) {
        let is_chinese = text.chars().any(|c| ('\u{4e00}'..'\u{a000}').contains(&c));
        // Names that are the same everywhere.
        let is_name = ["ABI", "NAT", "Call-ID"].contains(&text.trim());
        assert!(
            is_name || is_chinese == (language == "zh"),
            "{name}: {text}"
        );
    }
}

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

pub(crate) fn keyboard(page: &Page<'_>) {
    page.reload("calls");
    let focus = || page.value("document.activeElement.innerText || document.activeElement.tagName");
    page.value("document.activeElement.blur()");
    page.browser.press(TAB).unwrap();
    assert_eq!(focus(), "Skip to the content");
    let ring = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(page.value(ring), "solid");
    page.browser.press(ENTER).unwrap();
    page.browser.press(TAB).unwrap();
    // The first thing in the content is the search.
    assert_eq!(page.value("document.activeElement.type"), "search");
    // Then the table's frame, then its headings; Enter sorts, and the focus stays.
    page.browser.press(TAB).unwrap();
    page.browser.press(TAB).unwrap();
    assert_eq!(focus(), "Call");
    page.browser.press(ENTER).unwrap();
    let sorted = "document.querySelector('th[aria-sort=ascending]')?.innerText.startsWith('Call')";
    page.browser.until(sorted, LIMIT).unwrap();
    assert!(focus().as_str().unwrap().starts_with("Call"));
}
