//! The values that a template works on, as Go's reflection would see them.
//!
//! A value is small and copied freely: what is larger is borrowed, either from the document that is
//! rendered or from the [`Heap`] of the rendering, which goes as a whole at its end. So nothing is counted
//! by reference, a map that holds itself leaks nothing, and what a template makes has one bound.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, HashMap},
};

use bumpalo::Bump;
use serde_json::Value as Json;
use typed_arena::Arena;

use crate::{certificate::Certificate, error::Fault, semver::Version, text::JsonText, time::Time};

/// A value.
#[derive(Clone, Copy)]
pub(crate) enum Value<'r> {
    /// What is not there: a key that a map does not have. It prints as `<no value>`.
    Missing,
    /// What is there and holds nothing: `null`.
    Nil,
    Bool(bool),
    /// Go's `int`: literals, lengths, indexes.
    Int(i64),
    /// Go's `int64`: what arithmetic gives.
    Int64(i64),
    /// Go's `uint8`: a byte of a string.
    Byte(u8),
    /// Go's `float64`: every number of a document.
    Float(f64),
    Complex(f64, f64),
    /// Mostly UTF-8, but as in Go it need not be.
    Str(&'r [u8]),
    List(List<'r>),
    Map(Map<'r>),
    Time(&'r Time<'r>),
    Version(&'r Version),
    Certificate(&'r Certificate),
}

/// A list, of the document or made by the template.
#[derive(Clone, Copy)]
pub(crate) enum List<'r> {
    Json(&'r [Json]),
    Own(&'r [Value<'r>], Items),
    /// One that stays the text that it is in the body.
    Text(JsonText<'r>),
    /// `nil` of a list's type: it prints as an empty list and is `null` in JSON.
    Nil(Items),
}

/// What a list holds by its Go type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Items {
    Any,
    Strings,
    Ints,
    Lists,
}

/// A map, of the document or made by the template.
#[derive(Clone, Copy)]
pub(crate) enum Map<'r> {
    Json(&'r serde_json::Map<String, Json>),
    Read(&'r Members<'r>),
    /// One that stays the text that it is in the body.
    Text(JsonText<'r>),
    Own(&'r OwnMap<'r>),
}

/// An entry of a map.
pub(crate) type Entry<'r> = (&'r [u8], Value<'r>);

/// A map that was read for this rendering: sorted by key, and never changed.
pub(crate) struct Members<'r>(&'r [Entry<'r>]);

/// A map that the template made, or its copy of one that it changed.
pub(crate) struct OwnMap<'r> {
    pub(crate) kind: MapKind,
    pub(crate) entries: RefCell<BTreeMap<&'r [u8], Value<'r>>>,
}

/// What a map holds by its Go type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MapKind {
    /// `map[string]interface {}`
    Any,
    /// `map[string]string`
    Strings,
    /// `url.Values`, whose methods can be called.
    Form,
    /// `http.Header`
    Headers,
}

/// Where values of one rendering live, and how much of them there may be.
///
/// There are two counts. `left` is what the template may make, as its limits say. `most` is what all that is read,
/// made and written may take of memory together, and is exact: what is got from the allocator is counted as it is
/// got, also while a buffer grows into another.
pub(crate) struct Heap<'r> {
    bytes: Bump,
    texts: Shelf<Vec<u8>>,
    lists: Shelf<Vec<Value<'r>>>,
    maps: Shelf<OwnMap<'r>>,
    versions: Shelf<Version>,
    certificates: Shelf<Certificate>,
    /// Copies of maps of the document that the template changed, by where the map is.
    changed: RefCell<HashMap<*const (), &'r OwnMap<'r>>>,
    any_changed: Cell<bool>,
    left: Cell<usize>,
    most: usize,
    /// What is held outside of `bytes`.
    held: Cell<usize>,
    /// Whether something did not fit where nobody could be told.
    is_full: Cell<bool>,
    /// How many bytes of texts were looked through since this was asked last.
    scanned: Cell<usize>,
}

impl<'r> Heap<'r> {
    /// A heap for so many bytes of a template's, without a bound on the rest.
    pub(crate) fn new(left: usize) -> Self {
        Self::within(left, usize::MAX, 0)
    }

    /// A heap for so many bytes of a template's, and so many in all, some of which are got at once.
    pub(crate) fn within(left: usize, most: usize, room: usize) -> Self {
        Self {
            bytes: Bump::with_capacity(room),
            texts: Shelf::default(),
            lists: Shelf::default(),
            maps: Shelf::default(),
            versions: Shelf::default(),
            certificates: Shelf::default(),
            changed: RefCell::default(),
            any_changed: Cell::new(false),
            left: Cell::new(left),
            most,
            held: Cell::new(0),
            is_full: Cell::new(false),
            scanned: Cell::new(0),
        }
    }

    /// Counts memory that is got outside of the heap's own.
    #[inline]
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Fault> {
        let held = self.held.get().saturating_add(bytes);
        if held.saturating_add(self.bytes.allocated_bytes()) > self.most {
            return Err(Fault::memory());
        }
        self.held.set(held);
        // What was got is never above this, so it is a limit.
        self.bytes.set_allocation_limit(Some(self.most - held));
        Ok(())
    }

    /// Memory that was counted is let go.
    pub(crate) fn release(&self, bytes: usize) {
        let held = self.held.get().saturating_sub(bytes);
        self.held.set(held);
        self.bytes.set_allocation_limit(Some(self.most - held));
    }

    /// How much may still be held.
    pub(crate) fn spare(&self) -> usize {
        let taken = self.held.get().saturating_add(self.bytes.allocated_bytes());
        self.most.saturating_sub(taken)
    }

    /// Whether there is room for something that is let go again before anything else is held.
    pub(crate) fn room_for(&self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.spare() {
            return Err(Fault::memory());
        }
        Ok(())
    }

    /// Room for more items, which is counted. Both buffers are, while one grows into the other.
    #[inline]
    pub(crate) fn reserve<T>(&self, items: &mut Vec<T>, more: usize) -> Result<(), Fault> {
        if items.capacity() - items.len() < more {
            self.grow(items, more, items.capacity().saturating_mul(2))?;
        }
        Ok(())
    }

    /// The same, up to a capacity that is wished for, where there is room for that.
    #[cold]
    pub(crate) fn grow<T>(
        &self,
        items: &mut Vec<T>,
        more: usize,
        wished: usize,
    ) -> Result<(), Fault> {
        let old = items.capacity();
        let needed = items.len().saturating_add(more);
        let wished = wished.max(needed).max(8);
        let bytes = |capacity: usize| capacity.saturating_mul(size_of::<T>());
        let new = match self.hold(bytes(wished)) {
            Ok(()) => wished,
            Err(_) => {
                // Almost all there is: there will be no room for another buffer.
                let spare = self.spare();
                let new = (spare - spare / 8) / size_of::<T>().max(1);
                let new = new.max(needed).min(wished);
                self.hold(bytes(new))?;
                new
            }
        };
        items.reserve_exact(new - items.len());
        self.release(bytes(old));
        Ok(())
    }

    /// Notes that something did not fit, where nobody can be told at once. The rendering fails by it.
    pub(crate) fn overflow(&self) {
        self.is_full.set(true);
    }

    /// Fails where something did not fit.
    pub(crate) fn fits(&self) -> Result<(), Fault> {
        if self.is_full.get() {
            return Err(Fault::memory());
        }
        Ok(())
    }

    /// Notes that a text was looked through.
    pub(crate) fn scan(&self, bytes: usize) {
        self.scanned.set(self.scanned.get().saturating_add(bytes));
    }

    /// How much of texts was looked through since this was asked last, in steps of a rendering.
    #[inline]
    pub(crate) fn scanned(&self) -> usize {
        const BYTES: usize = 256;
        let scanned = self.scanned.get();
        if scanned < BYTES {
            return 0;
        }
        self.scanned.set(scanned % BYTES);
        scanned / BYTES
    }

    /// Takes so many bytes from what is left.
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), Fault> {
        match self.left.get().checked_sub(bytes) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(Fault::limit("the template makes more than it may hold")),
        }
    }

    /// What is wrong where something is longer than what is [`left`](Self::left).
    #[cold]
    pub(crate) fn too_much(&self) -> Fault {
        if self.spare() / 4 < self.left.get() {
            return Fault::memory();
        }
        Fault::limit("the template makes more than it may hold")
    }

    /// How many bytes may still be made: while one text is, its buffer may be three times as large, and the text
    /// is copied from it.
    pub(crate) fn left(&self) -> usize {
        self.left.get().min(self.spare() / 4)
    }

    /// The same where something is longer than what may be written.
    #[cold]
    pub(crate) fn too_long(&self) -> Fault {
        if self.spare() / 4 < self.left.get() {
            return Fault::memory();
        }
        crate::render::too_long()
    }

    pub(crate) fn bytes(&'r self, bytes: &[u8]) -> Result<&'r [u8], Fault> {
        self.charge(bytes.len())?;
        self.kept(bytes)
    }

    pub(crate) fn str(&'r self, bytes: impl AsRef<[u8]>) -> Result<Value<'r>, Fault> {
        self.bytes(bytes.as_ref()).map(Value::Str)
    }

    /// A text that was made: a long one is kept as it is, and not copied.
    pub(crate) fn made(&'r self, text: Vec<u8>) -> Result<Value<'r>, Fault> {
        const LONG: usize = 1024;
        if text.len() < LONG {
            return self.str(text);
        }
        self.charge(text.len())?;
        self.hold(text.capacity() + SHELVED)?;
        Ok(Value::Str(self.texts.alloc(text)))
    }

    pub(crate) fn list(&'r self, values: &[Value<'r>], items: Items) -> Result<Value<'r>, Fault> {
        self.charge(size_of_val(values))?;
        Ok(Value::List(List::Own(self.kept(values)?, items)))
    }

    pub(crate) fn strings<T: AsRef<[u8]>>(
        &'r self,
        texts: impl IntoIterator<Item = T>,
    ) -> Result<Value<'r>, Fault> {
        let texts = texts.into_iter().map(|text| self.str(text));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        self.list(&texts, Items::Strings)
    }

    pub(crate) fn map(
        &'r self,
        kind: MapKind,
        entries: BTreeMap<&'r [u8], Value<'r>>,
    ) -> Result<&'r OwnMap<'r>, Fault> {
        self.charge(64 + entries.len() * ENTRY)?;
        self.hold(OWN_MAP + entries.len() * HELD_ENTRY)?;
        let entries = RefCell::new(entries);
        Ok(self.maps.alloc(OwnMap { kind, entries }))
    }

    /// A map that never changes, of entries that are sorted by key, each key there once.
    pub(crate) fn members(&'r self, entries: &[Entry<'r>]) -> Result<Value<'r>, Fault> {
        let members = Members(self.kept(entries)?);
        // It has an address of its own, also where it is empty: `changed` knows it by that.
        let members = self.bytes.try_alloc(members).map_err(|_| Fault::memory())?;
        Ok(Value::Map(Map::Read(members)))
    }

    /// A list of what was read: the values on a stack from there on. Many that have the stack for themselves
    /// are kept with it, and not copied.
    pub(crate) fn items(
        &'r self,
        stack: &mut Vec<Value<'r>>,
        start: usize,
    ) -> Result<Value<'r>, Fault> {
        const MANY: usize = 64;
        let items = if start == 0 && stack.len() >= MANY {
            self.hold(stack.capacity() * size_of::<Value<'r>>() + SHELVED)?;
            self.lists.alloc(std::mem::take(stack))
        } else {
            let items = self.kept(&stack[start..])?;
            stack.truncate(start);
            items
        };
        Ok(Value::List(List::Own(items, Items::Any)))
    }

    /// A copy of what was read or made, which is counted as memory alone.
    #[inline]
    pub(crate) fn kept<T: Copy>(&'r self, items: &[T]) -> Result<&'r [T], Fault> {
        match self.bytes.try_alloc_slice_copy(items) {
            Ok(items) => Ok(items),
            Err(_) => Err(Fault::memory()),
        }
    }

    /// A list of what was read.
    pub(crate) fn collected(
        &'r self,
        values: impl ExactSizeIterator<Item = Value<'r>>,
    ) -> Result<Value<'r>, Fault> {
        let items = self.bytes.try_alloc_slice_fill_iter(values);
        let items = items.map_err(|_| Fault::memory())?;
        Ok(Value::List(List::Own(items, Items::Any)))
    }

    /// A text that was read and can be kept as it is.
    pub(crate) fn kept_text(&'r self, text: Vec<u8>) -> Result<&'r [u8], Fault> {
        self.hold(text.capacity() + SHELVED)?;
        Ok(self.texts.alloc(text))
    }

    /// A value of its own place.
    pub(crate) fn placed<T: Copy>(&'r self, value: T) -> Result<&'r T, Fault> {
        match self.bytes.try_alloc(value) {
            Ok(value) => Ok(value),
            Err(_) => Err(Fault::memory()),
        }
    }

    pub(crate) fn time(&'r self, time: Time<'r>) -> Result<Value<'r>, Fault> {
        self.charge(size_of::<Time<'r>>())?;
        let time = self.bytes.try_alloc(time).map_err(|_| Fault::memory())?;
        Ok(Value::Time(time))
    }

    pub(crate) fn version(&'r self, version: Version) -> Value<'r> {
        Value::Version(self.versions.alloc(version))
    }

    #[cfg_attr(
        not(feature = "costly"),
        expect(dead_code, reason = "made by costly functions")
    )]
    pub(crate) fn certificate(&'r self, certificate: Certificate) -> Value<'r> {
        Value::Certificate(self.certificates.alloc(certificate))
    }

    /// The map to change in place of this one: itself where the template made it, else a copy that stands
    /// for it from here on. The document never changes.
    pub(crate) fn own(&'r self, map: Map<'r>) -> Result<&'r OwnMap<'r>, Fault> {
        let current = self.current(map);
        if let Map::Own(own) = current {
            return Ok(own);
        }
        let entries = self.entries(current);
        self.room_for(2 * entries.len() * HELD_ENTRY)?;
        let own = self.map(MapKind::Any, entries.collect())?;
        self.hold(CHANGED)?;
        self.changed.borrow_mut().insert(current.address(), own);
        self.any_changed.set(true);
        Ok(own)
    }

    /// What stands for a map now.
    #[inline]
    pub(crate) fn current(&self, map: Map<'r>) -> Map<'r> {
        match map {
            Map::Json(_) | Map::Read(_) | Map::Text(_) if self.any_changed.get() => {
                let changed = self.changed.borrow();
                changed.get(&map.address()).map_or(map, |own| Map::Own(own))
            }
            map => map,
        }
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, map: Map<'r>, key: &[u8]) -> Option<Value<'r>> {
        match self.current(map) {
            Map::Json(json) => {
                let key = str::from_utf8(key).ok()?;
                json.get(key).map(Value::from)
            }
            Map::Read(members) => members.get(key),
            Map::Text(text) => text.member(key),
            Map::Own(own) => own.entries.borrow().get(key).copied(),
        }
    }

    /// How many keys a map has.
    pub(crate) fn len(&'r self, map: Map<'r>) -> usize {
        match self.current(map) {
            Map::Json(json) => json.len(),
            Map::Read(members) => members.0.len(),
            Map::Text(_) => self.entries(map).len(),
            Map::Own(own) => own.entries.borrow().len(),
        }
    }

    /// All entries, sorted by key. A list of them is counted as long as it lives.
    pub(crate) fn entries(&'r self, map: Map<'r>) -> Entries<'r> {
        let all = match self.current(map) {
            Map::Read(members) => return Entries::of(Cow::Borrowed(members.0), None, 0),
            Map::Text(text) => text.members(),
            Map::Json(json) => self.listed(json.len()).map(|mut all| {
                let entries = json.iter();
                all.extend(entries.map(|(key, value)| (key.as_bytes(), value.into())));
                if !all.is_sorted_by_key(|(key, _)| *key) {
                    all.sort_unstable_by_key(|(key, _)| *key);
                }
                all
            }),
            Map::Own(own) => {
                let entries = own.entries.borrow();
                self.listed(entries.len()).map(|mut all| {
                    all.extend(entries.iter().map(|(key, value)| (*key, *value)));
                    all
                })
            }
        };
        let Ok(all) = all else {
            self.overflow();
            return Entries::default();
        };
        let held = all.capacity() * size_of::<Entry<'r>>();
        Entries::of(Cow::Owned(all), Some(self), held)
    }

    /// Room for so many entries, which is counted.
    fn listed(&self, length: usize) -> Result<Vec<Entry<'r>>, Fault> {
        let mut all = Vec::new();
        if length > 0 {
            self.hold(length * size_of::<Entry<'r>>())?;
            all.reserve_exact(length);
        }
        Ok(all)
    }

    /// Sets a key of a map that the template made.
    pub(crate) fn insert(
        &self,
        map: &OwnMap<'r>,
        key: &'r [u8],
        value: Value<'r>,
    ) -> Result<(), Fault> {
        self.charge(ENTRY)?;
        self.hold(HELD_ENTRY)?;
        map.entries.borrow_mut().insert(key, value);
        Ok(())
    }

    pub(crate) fn truth(&'r self, value: Value<'r>) -> bool {
        match value {
            Value::Missing | Value::Nil => false,
            Value::Bool(value) => value,
            Value::Int(value) | Value::Int64(value) => value != 0,
            Value::Byte(value) => value != 0,
            Value::Float(value) => value != 0.0,
            Value::Complex(real, imaginary) => real != 0.0 || imaginary != 0.0,
            Value::Str(value) => !value.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Map(map) => match self.current(map) {
                Map::Text(text) => !text.is_empty(),
                map => self.len(map) != 0,
            },
            Value::Time(_) | Value::Version(_) | Value::Certificate(_) => true,
        }
    }
}

/// Values that live as long as the heap, and are dropped with it. Most renderings make none of most kinds, so
/// the first one makes the room.
struct Shelf<T>(OnceCell<Arena<T>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(OnceCell::new())
    }
}

impl<T> Shelf<T> {
    fn alloc(&self, value: T) -> &mut T {
        self.0.get_or_init(Arena::new).alloc(value)
    }
}

/// What an entry of a map is charged with, in bytes.
const ENTRY: usize = 64;

/// What an entry of a map takes of memory at most: nodes of eleven, which may be half full, and those above them.
const HELD_ENTRY: usize = 128;

/// What a map takes besides: itself on a shelf, and a first node.
const OWN_MAP: usize = 640;

/// What it takes to remember that a map was changed.
const CHANGED: usize = 128;

/// What a long text takes on its shelf, besides its bytes.
const SHELVED: usize = 64;

/// The entries of a map, one after the other.
#[derive(Default)]
pub(crate) struct Entries<'r> {
    all: Cow<'r, [Entry<'r>]>,
    at: usize,
    /// Where they are counted, where they are a list of their own.
    heap: Option<&'r Heap<'r>>,
    held: usize,
}

impl<'r> Entries<'r> {
    fn of(all: Cow<'r, [Entry<'r>]>, heap: Option<&'r Heap<'r>>, held: usize) -> Self {
        Self {
            all,
            at: 0,
            heap,
            held,
        }
    }

    pub(crate) fn as_slice(&self) -> &[Entry<'r>] {
        &self.all
    }
}

impl<'r> Iterator for Entries<'r> {
    type Item = Entry<'r>;

    fn next(&mut self) -> Option<Entry<'r>> {
        let entry = self.all.get(self.at).copied();
        self.at += 1;
        entry
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.all.len().saturating_sub(self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl Drop for Entries<'_> {
    fn drop(&mut self) {
        if let Some(heap) = self.heap {
            heap.release(self.held);
        }
    }
}

impl<'r> List<'r> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Own(items, _) => items.len(),
            Self::Text(text) => text.items().count(),
            Self::Nil(_) => 0,
        }
    }

    pub(crate) fn get(self, at: usize) -> Option<Value<'r>> {
        match self {
            Self::Json(items) => items.get(at).map(Value::from),
            Self::Own(items, _) => items.get(at).copied(),
            Self::Text(text) => text.items().nth(at).map(|item| item.value()),
            Self::Nil(_) => None,
        }
    }

    /// The items. Those that are a text are found one after the other.
    pub(crate) fn iter(self) -> impl Iterator<Item = Value<'r>> {
        let (text, length) = match self {
            Self::Text(text) => (Some(text.items()), 0),
            list => (None, list.len()),
        };
        let text = text.into_iter().flatten().map(JsonText::value);
        text.chain((0..length).filter_map(move |at| self.get(at)))
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            list => list.len() == 0,
        }
    }

    pub(crate) fn items(self) -> Items {
        match self {
            Self::Json(_) | Self::Text(_) => Items::Any,
            Self::Own(_, items) | Self::Nil(items) => items,
        }
    }

    pub(crate) fn is_nil(self) -> bool {
        matches!(self, Self::Nil(_))
    }
}

impl<'r> Members<'r> {
    /// Few members are looked through, many are halved.
    #[inline]
    fn get(&self, key: &[u8]) -> Option<Value<'r>> {
        const FEW: usize = 8;
        let entries = self.0;
        if entries.len() <= FEW {
            let found = entries.iter().find(|(name, _)| *name == key);
            return found.map(|(_, value)| *value);
        }
        let at = entries
            .binary_search_by(|(name, _)| (*name).cmp(key))
            .ok()?;
        entries.get(at).map(|(_, value)| *value)
    }
}

impl Map<'_> {
    /// Where it is.
    fn address(self) -> *const () {
        match self {
            Self::Json(json) => std::ptr::from_ref(json).cast(),
            Self::Read(members) => std::ptr::from_ref(members).cast(),
            Self::Text(text) => text.address(),
            Self::Own(own) => std::ptr::from_ref(own).cast(),
        }
    }

    pub(crate) fn kind(self) -> MapKind {
        match self {
            Self::Json(_) | Self::Read(_) | Self::Text(_) => MapKind::Any,
            Self::Own(own) => own.kind,
        }
    }
}

impl<'r> From<&'r Json> for Value<'r> {
    #[inline]
    fn from(json: &'r Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => Self::Str(text.as_bytes()),
            Json::Array(items) => Self::List(List::Json(items)),
            Json::Object(map) => Self::Map(Map::Json(map)),
        }
    }
}

impl Value<'_> {
    pub(crate) fn is_nil(self) -> bool {
        matches!(self, Self::Missing | Self::Nil)
    }

    /// The name of its Go type.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Byte(_) => "uint8",
            Self::Float(_) => "float64",
            Self::Complex(..) => "complex128",
            Self::Str(_) => "string",
            Self::List(list) => match list.items() {
                Items::Any => "[]interface {}",
                Items::Strings => "[]string",
                Items::Ints => "[]int",
                Items::Lists => "[][]interface {}",
            },
            Self::Map(map) => match map.kind() {
                MapKind::Any => "map[string]interface {}",
                MapKind::Strings => "map[string]string",
                MapKind::Form => "url.Values",
                MapKind::Headers => "http.Header",
            },
            Self::Time(_) => "time.Time",
            Self::Version(_) => "*semver.Version",
            Self::Certificate(_) => "sprig.certificate",
        }
    }

    /// The name of its Go kind.
    pub(crate) fn kind_name(self) -> &'static str {
        match self {
            Self::Missing | Self::Nil => "invalid",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Time(_) | Self::Certificate(_) => "struct",
            Self::Version(_) => "ptr",
            value => value.type_name(),
        }
    }
}
