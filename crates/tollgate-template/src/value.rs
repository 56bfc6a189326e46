//! The values that a template works on, as Go's reflection would see them.
//!
//! A value is small and copied freely: what is larger is borrowed, either from the document that is
//! rendered or from the [`Heap`] of the rendering, which goes as a whole at its end. So nothing is counted
//! by reference, a map that holds itself leaks nothing, and what a template makes has one bound.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, HashMap},
};

use bumpalo::Bump;
use serde_json::Value as Json;
use typed_arena::Arena;

use crate::{certificate::Certificate, error::Fault, semver::Version, time::Time};

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
}

impl<'r> Heap<'r> {
    /// A heap for so many bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self::with_room(most, 0)
    }

    /// The same, with so many bytes of them got at once.
    pub(crate) fn with_room(most: usize, room: usize) -> Self {
        Self {
            bytes: Bump::with_capacity(room),
            texts: Shelf::default(),
            lists: Shelf::default(),
            maps: Shelf::default(),
            versions: Shelf::default(),
            certificates: Shelf::default(),
            changed: RefCell::default(),
            any_changed: Cell::new(false),
            left: Cell::new(most),
        }
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

    /// How many bytes may still be made.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    pub(crate) fn bytes(&'r self, bytes: &[u8]) -> Result<&'r [u8], Fault> {
        self.charge(bytes.len())?;
        Ok(self.bytes.alloc_slice_copy(bytes))
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
        Ok(Value::Str(self.texts.alloc(text)))
    }

    pub(crate) fn list(&'r self, values: &[Value<'r>], items: Items) -> Result<Value<'r>, Fault> {
        self.charge(size_of_val(values))?;
        let values = self.bytes.alloc_slice_copy(values);
        Ok(Value::List(List::Own(values, items)))
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
        let entries = RefCell::new(entries);
        Ok(self.maps.alloc(OwnMap { kind, entries }))
    }

    /// A map that never changes, of entries that are sorted by key, each key there once.
    pub(crate) fn members(&'r self, entries: &[Entry<'r>]) -> Value<'r> {
        let members = Members(self.bytes.alloc_slice_copy(entries));
        // It has an address of its own, also where it is empty: `changed` knows it by that.
        Value::Map(Map::Read(self.bytes.alloc(members)))
    }

    /// A list of what was read: the values on a stack from there on. Many that have the stack for themselves
    /// are kept with it, and not copied.
    pub(crate) fn items(&'r self, stack: &mut Vec<Value<'r>>, start: usize) -> Value<'r> {
        const MANY: usize = 64;
        let items = if start == 0 && stack.len() >= MANY {
            self.lists.alloc(std::mem::take(stack))
        } else {
            let items = self.bytes.alloc_slice_copy(&stack[start..]);
            stack.truncate(start);
            items
        };
        Value::List(List::Own(items, Items::Any))
    }

    /// A text that was read. What it takes is for the reader to count.
    pub(crate) fn text(&'r self, text: &str) -> &'r str {
        self.bytes.alloc_str(text)
    }

    pub(crate) fn time(&'r self, time: Time<'r>) -> Result<Value<'r>, Fault> {
        self.charge(size_of::<Time<'r>>())?;
        Ok(Value::Time(self.bytes.alloc(time)))
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
        let entries = self.entries(current).into_iter().collect();
        let own = self.map(MapKind::Any, entries)?;
        self.changed.borrow_mut().insert(current.address(), own);
        self.any_changed.set(true);
        Ok(own)
    }

    /// What stands for a map now.
    #[inline]
    pub(crate) fn current(&self, map: Map<'r>) -> Map<'r> {
        match map {
            Map::Json(_) | Map::Read(_) if self.any_changed.get() => {
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
            Map::Own(own) => own.entries.borrow().get(key).copied(),
        }
    }

    /// How many keys a map has.
    pub(crate) fn len(&self, map: Map<'r>) -> usize {
        match self.current(map) {
            Map::Json(json) => json.len(),
            Map::Read(members) => members.0.len(),
            Map::Own(own) => own.entries.borrow().len(),
        }
    }

    /// All entries, sorted by key.
    pub(crate) fn entries(&self, map: Map<'r>) -> Vec<Entry<'r>> {
        match self.current(map) {
            Map::Json(json) => {
                let entries = json
                    .iter()
                    .map(|(key, value)| (key.as_bytes(), value.into()));
                let mut entries: Vec<Entry<'r>> = entries.collect();
                if !entries.is_sorted_by_key(|(key, _)| *key) {
                    entries.sort_unstable_by_key(|(key, _)| *key);
                }
                entries
            }
            Map::Read(members) => members.0.to_vec(),
            Map::Own(own) => {
                let entries = own.entries.borrow();
                entries.iter().map(|(key, value)| (*key, *value)).collect()
            }
        }
    }

    /// Sets a key of a map that the template made.
    pub(crate) fn insert(
        &self,
        map: &OwnMap<'r>,
        key: &'r [u8],
        value: Value<'r>,
    ) -> Result<(), Fault> {
        self.charge(ENTRY)?;
        map.entries.borrow_mut().insert(key, value);
        Ok(())
    }

    pub(crate) fn truth(&self, value: Value<'r>) -> bool {
        match value {
            Value::Missing | Value::Nil => false,
            Value::Bool(value) => value,
            Value::Int(value) | Value::Int64(value) => value != 0,
            Value::Byte(value) => value != 0,
            Value::Float(value) => value != 0.0,
            Value::Complex(real, imaginary) => real != 0.0 || imaginary != 0.0,
            Value::Str(value) => !value.is_empty(),
            Value::List(list) => list.len() != 0,
            Value::Map(map) => self.len(map) != 0,
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

impl<'r> List<'r> {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Own(items, _) => items.len(),
            Self::Nil(_) => 0,
        }
    }

    pub(crate) fn get(self, at: usize) -> Option<Value<'r>> {
        match self {
            Self::Json(items) => items.get(at).map(Value::from),
            Self::Own(items, _) => items.get(at).copied(),
            Self::Nil(_) => None,
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Value<'r>> {
        (0..self.len()).filter_map(move |at| self.get(at))
    }

    pub(crate) fn items(self) -> Items {
        match self {
            Self::Json(_) => Items::Any,
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
            Self::Own(own) => std::ptr::from_ref(own).cast(),
        }
    }

    pub(crate) fn kind(self) -> MapKind {
        match self {
            Self::Json(_) | Self::Read(_) => MapKind::Any,
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
