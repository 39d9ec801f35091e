//! Text in lines that fit a terminal.

/// Columns of the narrowest terminal people use.
pub(in crate::cli) const WIDTH: usize = 80;

/// Text that begins at column `indent`, and the lines after the first from there. A line of the
/// text stays one where it fits; a word that is too long is not cut.
pub(in crate::cli) fn wrapped(text: &str, indent: usize) -> String {
    let room = WIDTH.saturating_sub(indent);
    let mut lines: Vec<String> = Vec::new();
    for given in text.split('\n') {
        if given.chars().count() <= room {
            lines.push(given.to_owned());
            continue;
        }
        let mut line = String::new();
        for word in given.split(' ') {
            let length = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > room {
                lines.push(std::mem::take(&mut line));
            } else if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join(&format!("\n{:indent$}", ""))
}

/// `  name      text`, the text from column `indent` on.
pub(super) fn field(name: &str, text: &str, indent: usize) -> String {
    let margin = indent.saturating_sub(2);
    format!("  {name:<margin$}{}\n", wrapped(text, indent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_keep_their_indent() {
        let text = "one two ".repeat(12);
        let shown = field("name", text.trim(), 11);
        let expected = format!(
            "  name     {}\n           {}\n",
            "one two ".repeat(8).trim_end().to_owned() + " one",
            "two one two one two one two"
        );
        assert_eq!(shown, expected);
        let long = "x".repeat(90);
        assert_eq!(
            wrapped(&format!("a {long} b"), 4),
            format!("a\n    {long}\n    b")
        );
        assert_eq!(wrapped("a\n  b = 1", 2), "a\n    b = 1");
    }
}
