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
    heads: Box<[u64]>, // Of the items, side by side: most texts are told apart by them alone.
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
            heads: items.iter().map(|item| item.head).collect(),
            items: items.into(),
        }
    }

    /// Whether a rule opens this method of the path. With `behind`, rules also match the path behind the
    /// listen path; see [`PathPattern::matches_request`](super::PathPattern::matches_request).
    #[inline]
    pub(super) fn allow(&self, method: Method<'_>, path: &RequestPath<'_>, behind: bool) -> bool {
        !self.items.is_empty()
            && (self.allow_at_start(method, path) || self.allow_anywhere(method, path, behind))
    }

    /// The same for the longest text that a path without a listen path begins with: most often it is the
    /// one that opens it, and this takes half as long to see.
    #[inline]
    fn allow_at_start(&self, method: Method<'_>, path: &RequestPath<'_>) -> bool {
        let full = path.full().as_bytes();
        let head = head(full);
        let after = self.heads.partition_point(|other| *other <= head);
        let last = self.items.get(after.wrapping_sub(1));
        last.is_some_and(|item| {
            path.listen() == 0
                && self.begins(item, full, head)
                && item.methods.contain(method)
                && (!item.to_end || item.len() == full.len())
        })
    }

    fn allow_anywhere(&self, method: Method<'_>, path: &RequestPath<'_>, behind: bool) -> bool {
        let (full, listen) = (path.full().as_bytes(), path.listen());
        let opens = |item: &Item, at: usize| {
            let end = at + item.len();
            item.methods.contain(method)
                && (item.matches_whole(at, end, full.len(), listen)
                    || (behind && item.matches_behind(at, end, full.len(), listen)))
        };
        for (at, byte) in full.iter().enumerate() {
            if *byte != b'/' {
                continue;
            }
            let mut next = self.longest(&full[at..]);
            while let Some(item) = next {
                if opens(item, at) {
                    return true;
                }
                next = self.shorter(item, &full[at..]);
            }
        }
        behind && listen == full.len() && self.allow_root(method)
    }

    /// The longest text that the rest of a path begins with.
    #[inline]
    fn longest(&self, rest: &[u8]) -> Option<&Item> {
        let head = head(rest);
        let mut after = self.heads.partition_point(|other| *other <= head);
        let last = self.items.get(after.wrapping_sub(1))?;
        // Of texts that begin alike and go on, all that follows tells.
        if last.head == head && !last.is_short() {
            let first = self.heads.partition_point(|other| *other < head);
            let alike = &self.items[first..after];
            after = first + alike.partition_point(|item| self.text_of(item) <= rest);
        }
        let last = self.items.get(after.wrapping_sub(1))?;
        if self.begins(last, rest, head) {
            Some(last)
        } else {
            self.shorter(last, rest)
        }
    }

    /// The next shorter one.
    fn shorter(&self, item: &Item, rest: &[u8]) -> Option<&Item> {
        let head = head(rest);
        let mut item = &self.items[item.shorter? as usize];
        while !self.begins(item, rest, head) {
            item = &self.items[item.shorter? as usize];
        }
        Some(item)
    }

    #[inline]
    fn begins(&self, item: &Item, rest: &[u8], head: u64) -> bool {
        if item.is_short() {
            item.len() <= rest.len() && item.begins_head(head)
        } else {
            rest.starts_with(self.text_of(item))
        }
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
#[inline]
fn head(text: &[u8]) -> u64 {
    if let Some(head) = text.first_chunk() {
        return u64::from_be_bytes(*head);
    }
    // Two words that overlap: one that is read right after its bytes were written would have to wait.
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let (first, last) = (u32::from_be_bytes(*first), u32::from_be_bytes(*last));
        return u64::from(first) << 32 | u64::from(last) << (8 * (8 - text.len()));
    }
    let bytes = text.iter().enumerate();
    bytes.fold(0, |head, (at, byte)| {
        head | u64::from(*byte) << (56 - 8 * at)
    })
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("rules of less than 4 GiB")
}

impl Item {
    fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether its head is all of its text.
    fn is_short(&self) -> bool {
        self.len() <= 8
    }

    /// Whether a text with this head, that is long enough, begins with this short one.
    fn begins_head(&self, head: u64) -> bool {
        (head ^ self.head) >> (64 - 8 * self.len() as u32) == 0 // No text is empty.
    }

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
