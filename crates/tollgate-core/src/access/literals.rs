//! Literal path patterns that begin with a slash, looked up together.
//!
//! Most rules are plain texts, as `/users/`. Tried one by one, each costs a search of the path. Such a
//! text can only be found where the path has a slash, so one look-up for each slash finds all of them:
//! the texts are sorted, and those that begin the rest of the path are the last one that is not
//! after it, and the texts that this one begins with.

use super::{
    RequestPath,
    pattern::Literal,
    rules::{Method, Methods},
};

/// The literal rules of one list.
#[derive(Clone, Debug, Default)]
pub(super) struct Literals {
    text: Box<[u8]>,
    items: Box<[Item]>, // In the order of their texts.
}

#[derive(Clone, Debug)]
struct Item {
    head: u64, // Of the text, so that most texts are told apart in one step.
    start: u32,
    end: u32,
    /// The nearest item before whose text this one begins with.
    shorter: Option<u32>,
    from_start: bool,
    to_end: bool,
    methods: Methods,
}

impl Literals {
    pub(super) fn of(mut rules: Vec<(Literal<'_>, Methods)>) -> Self {
        rules.sort_by(|(one, _), (other, _)| one.text.cmp(other.text));
        let (mut text, mut items) = (Vec::new(), Vec::<Item>::new());
        for (at, (literal, methods)) in rules.iter().enumerate() {
            let shorter = (0..at)
                .rev()
                .find(|before| literal.text.starts_with(rules[*before].0.text));
            let start = place(text.len());
            text.extend_from_slice(literal.text);
            items.push(Item {
                head: head(literal.text),
                start,
                end: place(text.len()),
                shorter: shorter.map(place),
                from_start: literal.from_start,
                to_end: literal.to_end,
                methods: methods.clone(),
            });
        }
        Self {
            text: text.into(),
            items: items.into(),
        }
    }

    /// Whether a rule opens this method of the path. With `behind`, rules also match the path behind the
    /// listen path; see [`PathPattern::matches_request`](super::PathPattern::matches_request).
    pub(super) fn allow(&self, method: Method<'_>, path: &RequestPath<'_>, behind: bool) -> bool {
        if self.items.is_empty() {
            return false;
        }
        let (full, listen) = (path.full().as_bytes(), path.listen());
        let mut slashes = (0..full.len()).filter(|at| full[*at] == b'/'); // Paths are short.
        let found = slashes.any(|at| {
            let opens = |item: &Item| {
                let end = at + (item.end - item.start) as usize;
                item.methods.contain(method)
                    && (item.matches_whole(at, end, full.len(), listen)
                        || (behind && item.matches_behind(at, end, full.len(), listen)))
            };
            self.beginning(&full[at..]).any(opens)
        });
        found || (behind && listen == full.len() && self.allow_root(method))
    }

    /// The items whose text the rest of a path begins with.
    fn beginning(&self, rest: &[u8]) -> impl Iterator<Item = &Item> {
        let head = head(rest);
        let is_not_after =
            |item: &Item| item.head < head || (item.head == head && self.text_of(item) <= rest);
        let after = self.items.partition_point(is_not_after);
        let last = after.checked_sub(1).map(|last| &self.items[last]);
        let shorter = |item: &&Item| item.shorter.map(|shorter| &self.items[shorter as usize]);
        std::iter::successors(last, shorter).filter(|item| rest.starts_with(self.text_of(item)))
    }

    /// Behind a listen path that is the whole path lies `/`.
    fn allow_root(&self, method: Method<'_>) -> bool {
        self.items
            .iter()
            .any(|item| self.text_of(item) == b"/" && item.methods.contain(method))
    }

    fn text_of(&self, item: &Item) -> &[u8] {
        &self.text[item.start as usize..item.end as usize]
    }
}

/// The first eight bytes, as a number that is in the order of the texts.
fn head(text: &[u8]) -> u64 {
    if let Some(head) = text.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    // Byte by byte: a word that is read right after its bytes were written would have to wait for them.
    let head = text
        .iter()
        .fold(0, |head, byte| head << 8 | u64::from(*byte));
    head << ((8 * (8 - text.len())) % 64)
}

/// A place in a list of rules, whose texts are 16 KiB at most each.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("rules of less than 4 GiB")
}

impl Item {
    /// Whether the text, found from `start` to `end`, matches the path as a whole. A match inside the
    /// listen path alone does not count.
    fn matches_whole(&self, start: usize, end: usize, length: usize, listen: usize) -> bool {
        let is_whole = self.from_start && self.to_end;
        let reaches_behind = listen <= start || listen + 1 < end || (start == 0 && listen <= end);
        (!self.from_start || start == 0)
            && (!self.to_end || end == length)
            && (listen == 0 || is_whole || reaches_behind)
    }

    fn matches_behind(&self, start: usize, end: usize, length: usize, listen: usize) -> bool {
        listen <= start && (!self.from_start || start == listen) && (!self.to_end || end == length)
    }
}
