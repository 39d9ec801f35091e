//! Whether those who do not see, or have no mouse, reach everything: what can be checked of
//! WCAG 2.2 without a person.

use serde_json::json;

use super::page::Page;

/// Of what is pressed, in pixels (WCAG 2.2, 2.5.8).
const TARGET_MIN: u32 = 24;

pub(crate) fn assert_sound(page: &Page<'_>, name: &str) {
    let found = page.value(&format!("({SOUND})({TARGET_MIN})"));
    assert_eq!(found, json!([]), "{name}");
}

/// A list of what is wrong, each with the element.
const SOUND: &str = "least => {
  const found = [];
  const tell = (rule, e) => found.push(`${rule}: ${e.outerHTML.slice(0, 160)}`);
  const all = selector => [...document.querySelectorAll(selector)];
  const seen = e => e.checkVisibility({ visibilityProperty: true });
  const used = 'a[href], button, input, select, textarea, summary, [tabindex]';
  const ids = all('[id]').map(e => e.id);
  for (const e of all('[id]')) if (ids.filter(id => id === e.id).length > 1) tell('id twice', e);
  for (const name of ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for'])
    for (const e of all(`[${name}]`))
      for (const id of e.getAttribute(name).split(' '))
        if (!document.getElementById(id)) tell(`${name} leads nowhere`, e);
  const roles = ['status', 'alert', 'region', 'group', 'img', 'dialog', 'list', 'listitem'];
  for (const e of all('[role]'))
    if (!roles.includes(e.getAttribute('role'))) tell('role', e);
  for (const e of all('[role=region], [role=group], [role=img], meter, nav, table'))
    if (!e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby') && !e.caption)
      tell('no label', e);
  for (const e of all('[tabindex]')) if (e.tabIndex > 0) tell('order of its own', e);
  for (const e of all('[aria-hidden=true]'))
    if (e.matches(used) || e.querySelector(used)) tell('hidden but reached', e);
  for (const e of all('a, button'))
    if (e.querySelector(used)) tell('one in another', e);
  let level = 0;
  for (const e of all('main :is(h1, h2, h3, h4)')) {
    const now = Number(e.nodeName[1]);
    if (now > level + 1) tell('heading skips a level', e);
    level = now;
  }
  for (const e of all('th')) if (!e.scope) tell('heading of what', e);
  for (const e of all('th')) if (!e.innerText.trim()) tell('empty heading', e);
  for (const e of all('ul > :not(li), ol > :not(li), dl > :not(div)')) tell('not of a list', e);
  for (const e of all('dl > div')) if (!e.querySelector('dt + dd')) tell('no pair', e);
  for (const e of all('img')) if (e.getAttribute('alt') === null) tell('no words', e);
  for (const e of all('input, select, textarea'))
    if (!e.labels.length && !e.getAttribute('aria-label')) tell('no label', e);
  for (const e of all('button, select, input, textarea, nav a')) {
    const { width, height } = e.getBoundingClientRect();
    const is_small = Math.min(width, height) < least && e.type !== 'checkbox';
    if (seen(e) && is_small) tell(`${width.toFixed(1)} by ${height.toFixed(1)}`, e);
  }
  for (const e of all('.scroll'))
    if (e.scrollWidth > e.clientWidth && e.tabIndex < 0) tell('scrolled by mouse only', e);
  for (const selector of ['main', 'nav', 'header', 'h1'])
    if (all(selector).length !== 1) found.push(`not one ${selector}`);
  if (!all('[aria-live=polite], [role=status]').length) found.push('nothing is announced');
  if (!document.documentElement.lang || !document.title.includes('·')) found.push('title');
  return found;
}";

const TAB: &str = "\u{e004}";

/// Everything that can be used, by Tab alone, in the order in which it stands; the focus is seen.
pub(crate) fn tour(page: &Page<'_>, view: &str) {
    page.reload(view);
    page.press("header", "Pause");
    page.value("document.activeElement.blur()");
    let stops = page.value(
        "(window.stops = [...document.querySelectorAll('a[href], button:enabled, input, select, \
         textarea, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())).length",
    );
    let stops = stops.as_u64().unwrap();
    assert!(stops > 20, "{stops}");
    for stop in 0..stops {
        page.browser.press(TAB).unwrap();
        let at = page.value("window.stops.indexOf(document.activeElement)");
        let what = page.value("document.activeElement.outerHTML.slice(0, 160)");
        assert_eq!(at, stop, "{what}");
        let ring = page.value("getComputedStyle(document.activeElement).outlineStyle");
        assert_ne!(ring, "none", "{what}");
    }
    page.press("header", "Resume");
}
