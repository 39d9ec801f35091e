//! What participants are shown: absolute targets. A command says what is to be seen, never how it
//! differs from what is.

use serde_json::{Map, Value, json};

use crate::bus::topic::is_id;

use super::envelope::Revision;

/// Of one conference.
pub const VIEWS_MAX: usize = 64;
/// Of a layout's name.
const LAYOUT_BYTES_MAX: usize = 32;
/// The whole picture.
const ZOOM_MIN: f64 = 1.0;
const ZOOM_MAX: f64 = 16.0;
/// The part of a picture that is shown: left, top, width, height, of the whole.
const WHOLE: [f64; 4] = [0.0, 0.0, 1.0, 1.0];
/// The layout of who names none.
const LAYOUT: &str = "grid";

/// What is to be seen: everything of it, every time.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub layout: String,
    /// The participant in front.
    pub focus: Option<String>,
    pub zoom: f64,
    pub rect: [f64; 4],
}

impl Default for Target {
    fn default() -> Self {
        Self {
            layout: LAYOUT.to_owned(),
            focus: None,
            zoom: ZOOM_MIN,
            rect: WHOLE,
        }
    }
}

impl Target {
    /// What a command names; what it leaves out is as in a view nobody has set.
    #[must_use]
    pub fn read(target: &Map<String, Value>) -> Option<Self> {
        let given = |name: &str| target.get(name).filter(|value| !value.is_null());
        let mut read = Self::default();
        if let Some(layout) = given("layout") {
            let fits = |text: &&str| is_id(text) && text.len() <= LAYOUT_BYTES_MAX;
            layout.as_str().filter(fits)?.clone_into(&mut read.layout);
        }
        if let Some(focus) = given("focus") {
            let focus = focus.as_str().filter(|focus| is_id(focus))?;
            read.focus = Some(focus.to_owned());
        }
        if let Some(zoom) = given("zoom") {
            let fits = |zoom: &f64| (ZOOM_MIN..=ZOOM_MAX).contains(zoom);
            read.zoom = zoom.as_f64().filter(fits)?;
        }
        if let Some(rect) = given("rect") {
            let sides: Option<Vec<f64>> = rect.as_array()?.iter().map(Value::as_f64).collect();
            read.rect = sides?.try_into().ok().filter(lies_within)?;
        }
        Some(read)
    }

    #[must_use]
    pub fn document(&self) -> Map<String, Value> {
        let fields = [
            ("layout", json!(self.layout)),
            ("focus", json!(self.focus)),
            ("zoom", json!(self.zoom)),
            ("rect", json!(self.rect)),
        ];
        let named = fields.into_iter();
        named
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// Whether it has an area and does not stick out.
fn lies_within(rect: &[f64; 4]) -> bool {
    // What is added up in binary is not exact.
    const SLACK: f64 = 1e-9;
    let [left, top, width, height] = *rect;
    let within =
        |begin: f64, length: f64| begin >= 0.0 && length > 0.0 && begin + length <= 1.0 + SLACK;
    within(left, width) && within(top, height)
}

/// One view of a conference, as it is shown now.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub target: Target,
    /// The participant who set it.
    pub by: String,
    pub revision: Revision,
}

impl View {
    /// The data of its state.
    #[must_use]
    pub fn document(&self, vid: &str) -> Value {
        let mut data = self.target.document();
        data.insert("vid".to_owned(), vid.into());
        data.insert("by".to_owned(), self.by.as_str().into());
        Value::Object(data)
    }
}

/// Commands of clients that know no targets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Legacy {
    ZoomIn,
    ZoomOut,
    Toggle,
}

impl Legacy {
    /// By the type of its message.
    #[must_use]
    pub fn read(kind: &str) -> Option<Self> {
        match kind.strip_prefix("view.").unwrap_or(kind) {
            "zoom_in" | "zoom-in" => Some(Self::ZoomIn),
            "zoom_out" | "zoom-out" => Some(Self::ZoomOut),
            "toggle" => Some(Self::Toggle),
            _ => None,
        }
    }

    /// What it means to a client that wanted `wanted` before: in is one step in, however often it
    /// is said, so that nothing depends on how many of them arrive.
    #[must_use]
    pub fn target(self, wanted: &Target, focus: Option<&str>) -> Target {
        let into = match self {
            Self::ZoomIn => true,
            Self::ZoomOut => false,
            Self::Toggle => wanted.zoom <= ZOOM_MIN,
        };
        if !into {
            return Target::default();
        }
        let focus = focus.map(str::to_owned).or_else(|| wanted.focus.clone());
        Target {
            layout: "focus".to_owned(),
            focus,
            zoom: ZOOMED,
            rect: WHOLE,
        }
    }
}

/// One step in.
const ZOOMED: f64 = 2.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(json: &str) -> Option<Target> {
        Target::read(
            serde_json::from_str::<Value>(json)
                .unwrap()
                .as_object()
                .unwrap(),
        )
    }

    #[test]
    fn targets_are_whole() {
        assert_eq!(read("{}"), Some(Target::default()));
        let target = read(r#"{"layout":"focus","focus":"p3","zoom":2,"rect":[0.25,0.25,0.5,0.5]}"#);
        let target = target.unwrap();
        assert_eq!(target.focus.as_deref(), Some("p3"));
        assert_eq!((target.zoom, target.rect), (2.0, [0.25, 0.25, 0.5, 0.5]));
        assert_eq!(Target::read(&target.document()), Some(target));
        for wrong in [
            r#"{"layout":7}"#,
            r#"{"layout":"A B"}"#,
            r#"{"focus":""}"#,
            r#"{"zoom":0.5}"#,
            r#"{"zoom":17}"#,
            r#"{"zoom":"2"}"#,
            r#"{"rect":[0,0,1]}"#,
            r#"{"rect":[0,0,1,1,1]}"#,
            r#"{"rect":[0,0,0,1]}"#,
            r#"{"rect":[0.6,0,0.5,1]}"#,
            r#"{"rect":[-0.1,0,0.5,1]}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn legacy_commands_are_targets() {
        let whole = Target::default();
        let into = Legacy::ZoomIn.target(&whole, Some("p3"));
        assert_eq!((into.zoom, into.focus.as_deref()), (2.0, Some("p3")));
        assert_eq!(Legacy::ZoomIn.target(&into, None), into);
        assert_eq!(Legacy::ZoomOut.target(&into, None), whole);
        assert_eq!(Legacy::Toggle.target(&into, None), whole);
        assert_eq!(Legacy::Toggle.target(&whole, Some("p3")), into);
        assert_eq!(Legacy::read("zoom_in"), Some(Legacy::ZoomIn));
        assert_eq!(Legacy::read("view.zoom_out"), Some(Legacy::ZoomOut));
        assert_eq!(Legacy::read("view.set"), None);
    }
}
