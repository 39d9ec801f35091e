//! Texts that a regular expression describes, as far as those of our API's document go: classes,
//! groups, alternatives, repetition.

use std::iter::Peekable;
use std::str::Chars;

/// The shortest, the longest and some between, each of which matches.
///
/// # Panics
/// If the pattern says more than is understood here.
#[must_use]
pub fn samples(pattern: &str) -> Vec<String> {
    let mut letters = pattern.chars().peekable();
    let node = alternatives(&mut letters);
    assert_eq!(letters.next(), None, "{pattern}");
    let mut samples = vec![
        text(&node, &mut Choice::Least),
        text(&node, &mut Choice::Most),
    ];
    samples.extend((1..=RANDOM).map(|seed| text(&node, &mut Choice::Random(seed))));
    samples
}

const RANDOM: u64 = 6;
/// For `*`.
const STAR_MAX: u32 = 3;

enum Node {
    /// One letter of these.
    Letter(Vec<char>),
    Sequence(Vec<Self>),
    OneOf(Vec<Self>),
    Repeat(Box<Self>, u32, u32),
}

enum Choice {
    Least,
    Most,
    Random(u64),
}

impl Choice {
    /// From 0 to `last`.
    fn of(&mut self, last: usize) -> usize {
        match self {
            Self::Least => 0,
            Self::Most => last,
            Self::Random(state) => {
                *state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                usize::try_from(*state >> 33).unwrap_or(0) % (last + 1)
            }
        }
    }
}

fn alternatives(letters: &mut Peekable<Chars<'_>>) -> Node {
    let mut all = vec![sequence(letters)];
    while letters.next_if_eq(&'|').is_some() {
        all.push(sequence(letters));
    }
    Node::OneOf(all)
}

fn sequence(letters: &mut Peekable<Chars<'_>>) -> Node {
    let mut nodes = Vec::new();
    while let Some(letter) = letters.next_if(|c| !"|)".contains(*c)) {
        let node = match letter {
            '^' | '$' => continue,
            '(' => {
                let group = alternatives(letters);
                assert_eq!(letters.next(), Some(')'), "a group that ends");
                group
            }
            '[' => Node::Letter(class(letters)),
            '\\' => Node::Letter(letters.next().into_iter().collect()),
            '.' => Node::Letter(ANY.to_vec()),
            letter => Node::Letter(vec![letter]),
        };
        nodes.push(repeated(node, letters));
    }
    Node::Sequence(nodes)
}

/// Where any letter will do, or any but a few; none of which a class of ours leaves out.
const ANY: [char; 3] = ['a', '~', 'é'];

fn class(letters: &mut Peekable<Chars<'_>>) -> Vec<char> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut all: Vec<char> = Vec::new();
    while let Some(letter) = letters.next_if(|c| *c != ']') {
        let is_range = !all.is_empty() && letter == '-' && letters.peek() != Some(&']');
        if is_range {
            let (from, to) = (all.pop(), letters.next());
            let range = from.zip(to).map(|(from, to)| from..=to);
            all.extend(range.into_iter().flatten());
        } else {
            all.push(letter);
        }
    }
    assert_eq!(letters.next(), Some(']'), "a class that ends");
    match negated {
        true => ANY.iter().copied().filter(|c| !all.contains(c)).collect(),
        false => all,
    }
}

fn repeated(node: Node, letters: &mut Peekable<Chars<'_>>) -> Node {
    let (least, most) = match letters.next_if(|c| "?*{".contains(*c)) {
        None => return node,
        Some('?') => (0, 1),
        Some('*') => (0, STAR_MAX),
        Some(_) => {
            let inner: String = std::iter::from_fn(|| letters.next_if(|c| *c != '}')).collect();
            letters.next();
            let (least, most) = inner.split_once(',').unwrap_or((&inner, &inner));
            let number = |text: &str| text.parse().expect("a number of repetitions");
            (number(least), number(most))
        }
    };
    Node::Repeat(Box::new(node), least, most)
}

fn text(node: &Node, choice: &mut Choice) -> String {
    match node {
        Node::Letter(letters) => {
            let at = choice.of(letters.len().saturating_sub(1));
            letters.get(at).map(char::to_string).unwrap_or_default()
        }
        Node::Sequence(nodes) => nodes.iter().map(|node| text(node, choice)).collect(),
        Node::OneOf(nodes) => {
            let at = choice.of(nodes.len().saturating_sub(1));
            nodes
                .get(at)
                .map(|node| text(node, choice))
                .unwrap_or_default()
        }
        Node::Repeat(node, least, most) => {
            let more = choice.of(usize::try_from(most - least).unwrap_or(0));
            let times = usize::try_from(*least).unwrap_or(0) + more;
            (0..times).map(|_| text(node, choice)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_what_the_pattern_says() {
        let check = |pattern: &str, least: &str, most: &str| {
            let found = samples(pattern);
            assert_eq!([&found[0], &found[1]], [least, most], "{pattern}");
        };
        check("^[a-c-]{2,4}$", "aa", "----");
        check("^(x|yz?)$", "x", "yz");
        check("^(off|on)(,(a=)?b){0,2}$", "off", "on,a=b,a=b");
        check(r"^1\.[0-9]$", "1.0", "1.9");
        check("^[^ a]{1,2}$", "~", "éé");
        check("^a*$", "", "aaa");
    }
}
