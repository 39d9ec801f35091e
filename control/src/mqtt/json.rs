//! Finds one member of a JSON text (RFC 8259) by a pointer (RFC 6901), and nothing else of it:
//! every other byte stays as it is.

use std::ops::Range;

/// Deeper texts are left alone.
const DEPTH_MAX: usize = 64;

/// The content of a string, without its quotes; none: there is no string, or one with escapes, or
/// the text is no JSON as far as it was read.
#[must_use]
pub fn string(text: &[u8], pointer: &[String]) -> Option<Range<usize>> {
    let mut scan = Scan { text, at: 0 };
    for name in pointer {
        scan.space();
        match scan.byte()? {
            b'{' => scan.member(name)?,
            b'[' => scan.element(name.parse().ok()?)?,
            _ => return None,
        }
    }
    scan.space();
    scan.expect(b'"')?;
    let range = scan.rest_of_string()?;
    let plain = !text.get(range.clone())?.contains(&b'\\');
    plain.then_some(range)
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.byte()? == wanted).then_some(())
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b" \t\r\n".contains(&b)) {
            self.at += 1;
        }
    }

    /// Behind the brace of an object: to the value of a member.
    fn member(&mut self, name: &str) -> Option<()> {
        loop {
            self.space();
            self.expect(b'"')?;
            let key = self.rest_of_string()?;
            self.space();
            self.expect(b':')?;
            if self.text.get(key)? == name.as_bytes() {
                return Some(());
            }
            self.skip()?;
            self.space();
            self.expect(b',')?;
        }
    }

    /// Behind the bracket of an array: to an element.
    fn element(&mut self, index: usize) -> Option<()> {
        for _ in 0..index {
            self.skip()?;
            self.space();
            self.expect(b',')?;
        }
        Some(())
    }

    /// Behind the first quote: what is before the last one.
    fn rest_of_string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        loop {
            match self.byte()? {
                b'"' => return Some(start..self.at - 1),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }

    /// Over one value, whatever it is.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0;
        loop {
            self.space();
            match self.byte()? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => {
                    self.rest_of_string()?;
                }
                b',' | b':' => {}
                _ => {
                    while self.peek().is_some_and(|b| !b" \t\r\n,:]}".contains(&b)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
            if depth > DEPTH_MAX {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found() {
        for (text, pointer, expected) in [
            (r#"{"a":"x"}"#, "/a", Some("x")),
            (r#" { "b" : [1, {"c":[]}], "a" : "x" } "#, "/a", Some("x")),
            (
                r#"{"s":{"n":null,"ip":"10.0.0.3"}}"#,
                "/s/ip",
                Some("10.0.0.3"),
            ),
            (r#"{"s":[true,"x"]}"#, "/s/1", Some("x")),
            (r#"{"s":[true,"x"]}"#, "/s/0", None),
            (r#"{"s":[true,"x"]}"#, "/s/2", None),
            (r#"{"a\"":1,"a":"x"}"#, "/a", Some("x")),
            (r#"{"b":"}","a":""}"#, "/a", Some("")),
            (r#"{"a":"\u0041"}"#, "/a", None),
            (r#"{"a":5}"#, "/a", None),
            (r#"{"a":"x"#, "/a", None),
            (r#"{"a":"x\"#, "/a", None),
            (r#"{"b":-1.5e3 ,"a":"x"}"#, "/a", Some("x")),
            ("", "/a", None),
            ("\u{0}", "/a", None),
            ("[[[[", "/0/0/0", None),
        ] {
            let levels: Vec<String> = pointer.split('/').skip(1).map(str::to_owned).collect();
            let found = string(text.as_bytes(), &levels).map(|range| &text[range]);
            assert_eq!(found, expected, "{text} {pointer}");
        }
        let deep = format!("{{\"b\":{}{}", "[".repeat(100), "]".repeat(100));
        assert_eq!(string(deep.as_bytes(), &["a".to_owned()]), None);
    }
}
