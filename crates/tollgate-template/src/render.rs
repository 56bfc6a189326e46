//! Renders a tree with a document.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::Value as Json;

use crate::{
    Limits,
    error::Fault,
    funcs::{Function, Given, Parameter, Write, method},
    json::{self, Style},
    out::Out,
    print::print,
    regexes::Regexes,
    tree::{Body, Branch, Command, Expr, ExprKind, Node, Number, Pipe, Slot},
    value::{Entry, Heap, List, Map, Value},
    xml,
};

/// One rendering.
pub(crate) struct Render<'r> {
    pub(crate) heap: &'r Heap<'r>,
    pub(crate) regexes: &'r Regexes,
    named: &'r BTreeMap<Box<str>, Body>,
    out: Out<'r>,
    most: usize,
    fill: &'r dyn Fn(usize) -> String,
    steps: u64,
    deepest: u16,
    depth: u16,
    /// How deeply blocks and pipes are nested, over all templates.
    nested: u16,
    /// The variables of all templates that are being rendered, those of the innermost last.
    slots: Vec<Value<'r>>,
    base: usize,
}

/// How deeply blocks and pipes may be nested over all templates: a thread of a runtime has 2 MiB of stack.
const DEEPEST_NODE: u16 = 400;

/// What is to be done behind a node.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// What is given to a command by the one before it in a pipe.
type Final<'r> = Option<Value<'r>>;

impl<'r> Render<'r> {
    pub(crate) fn new(
        heap: &'r Heap<'r>,
        regexes: &'r Regexes,
        named: &'r BTreeMap<Box<str>, Body>,
        limits: &Limits,
        out: Out<'r>,
        fill: &'r dyn Fn(usize) -> String,
    ) -> Self {
        Self {
            heap,
            regexes,
            named,
            out,
            most: limits.output,
            fill,
            steps: limits.steps,
            deepest: limits.depth,
            depth: 0,
            nested: 0,
            slots: Vec::new(),
            base: 0,
        }
    }

    pub(crate) fn run(mut self, body: &'r Body, dot: Value<'r>) -> Result<Vec<u8>, Fault> {
        let done = self.body(body, dot);
        self.out.is_whole()?;
        self.heap.fits()?;
        done?;
        Ok(self.out.into_bytes())
    }

    /// Pays for work.
    #[inline]
    pub(crate) fn step(&mut self, steps: usize) -> Result<(), Fault> {
        let steps = steps + self.heap.scanned();
        match self.steps.checked_sub(steps as u64) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => Err(Fault::limit("the template takes too many steps")),
        }
    }

    /// How many bytes may still be written.
    fn room(&self) -> usize {
        self.most.saturating_sub(self.out.len())
    }

    /// How long a text may be that is made to be written.
    pub(crate) fn printable(&self) -> usize {
        self.room().min(self.heap.left())
    }

    /// What a function is given may be copied a few times while it is called. Most is short.
    #[inline]
    fn can_be_given(&self, function: &Function, values: &[Value<'r>]) -> Result<(), Fault> {
        const SHORT: usize = 4 << 10;
        const COPIES: usize = 3;
        let texts = values.iter().map(|value| match value {
            Value::Str(text) => text.len(),
            _ => 0,
        });
        let length = texts.fold(0, usize::saturating_add);
        if length <= SHORT || function.copies_nothing() {
            return Ok(());
        }
        self.heap.room_for(length.saturating_mul(COPIES))
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Fault> {
        if text.len() > self.room() {
            return Err(too_long());
        }
        self.out.extend_from_slice(text);
        self.out.is_whole()
    }

    fn body(&mut self, body: &'r Body, dot: Value<'r>) -> Result<Flow, Fault> {
        let outer = self.base;
        self.base = self.slots.len();
        self.slots.resize(self.base + body.slots, Value::Missing);
        self.slots[self.base] = dot;
        let flow = self.nodes(&body.nodes, dot);
        self.slots.truncate(self.base);
        self.base = outer;
        flow
    }

    fn nodes(&mut self, nodes: &'r [Node], dot: Value<'r>) -> Result<Flow, Fault> {
        self.deeper()?;
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.nested -= 1;
        Ok(flow)
    }

    /// One more level, where the stack has room for it.
    fn deeper(&mut self) -> Result<(), Fault> {
        if self.nested >= DEEPEST_NODE {
            return Err(Fault::limit("blocks and templates are nested too deeply"));
        }
        self.nested += 1;
        Ok(())
    }

    fn node(&mut self, node: &'r Node, dot: Value<'r>) -> Result<Flow, Fault> {
        self.step(1)?;
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Filled(number) => {
                let text = (self.fill)(*number);
                self.write(text.as_bytes())?;
            }
            Node::Action(pipe) => self.action(pipe, dot)?,
            Node::If(branch) => return self.choose(branch, dot, false),
            Node::With(branch) => return self.choose(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Call { name, argument, at } => {
                self.call_template(name, argument.as_ref(), *at, dot)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    #[inline]
    fn action(&mut self, pipe: &'r Pipe, dot: Value<'r>) -> Result<(), Fault> {
        let last = pipe.commands.split_last();
        if let Some((last, before)) = last
            && let ExprKind::Function(function) = &last.first.kind
            && let Some(write) = function.write
            && pipe.sets.is_empty()
        {
            self.deeper()?;
            let given = self.commands(before, dot)?;
            let written = self.written(function, write, &last.arguments, dot, given);
            self.nested -= 1;
            return written.map_err(|fault| fault.at(last.first.at));
        }
        let value = self.pipe(pipe, dot)?;
        if pipe.sets.is_empty() {
            self.print(value).map_err(|fault| fault.at(pipe.at))?;
        }
        Ok(())
    }

    /// Calls a function that writes its text by itself.
    fn written(
        &mut self,
        function: &'static Function,
        write: Write,
        arguments: &'r [Expr],
        dot: Value<'r>,
        given: Final<'r>,
    ) -> Result<(), Fault> {
        self.step(1)?;
        let mut values = Given::new();
        self.arguments(function, 0, arguments, dot, given, &mut values)?;
        write(self, &values).map_err(|fault| fault.of(function.name))
    }

    /// Writes a value as JSON.
    pub(crate) fn write_json(&mut self, value: Value<'r>, style: Style) -> Result<(), Fault> {
        let before = self.out.len();
        json::write(self.heap, &mut self.out, value, style, self.most)?;
        self.step((self.out.len() - before) / 16)
    }

    /// Writes a value as XML.
    pub(crate) fn write_xml(&mut self, value: Value<'r>) -> Result<(), Fault> {
        let before = self.out.len();
        xml::write::write(self.heap, &mut self.out, value, self.most)?;
        self.step((self.out.len() - before) / 16)
    }

    fn print(&mut self, value: Value<'r>) -> Result<(), Fault> {
        match value {
            Value::Str(text) => self.write(text),
            Value::Missing | Value::Nil => self.write(b"<no value>"),
            value => print(self.heap, &mut self.out, value, self.most),
        }
    }

    fn choose(
        &mut self,
        branch: &'r Branch,
        dot: Value<'r>,
        moves_dot: bool,
    ) -> Result<Flow, Fault> {
        let value = self.pipe(&branch.pipe, dot)?;
        if self.heap.truth(value) {
            let dot = if moves_dot { value } else { dot };
            self.nodes(&branch.then, dot)
        } else {
            self.nodes(&branch.otherwise, dot)
        }
    }

    fn range(&mut self, branch: &'r Branch, dot: Value<'r>) -> Result<Flow, Fault> {
        let at = branch.pipe.at;
        let value = self.pipe(&branch.pipe, dot)?;
        let wrong = |message: String| Fault::new(message).at(at);
        match value {
            Value::Int(_) | Value::Int64(_) | Value::Byte(_) if branch.pipe.sets.len() > 1 => {
                let message = "can't use a number to iterate over more than one variable";
                Err(wrong(message.into()))
            }
            Value::Int(count) | Value::Int64(count) => {
                let as_it_came = |number| match value {
                    Value::Int64(_) => Value::Int64(number),
                    _ => Value::Int(number),
                };
                let items = (0..count).map(|number| (Value::Missing, as_it_came(number)));
                self.iterate(branch, dot, items)
            }
            Value::Byte(count) => {
                let items = (0..count).map(|number| (Value::Missing, Value::Byte(number)));
                self.iterate(branch, dot, items)
            }
            Value::List(list) => {
                let items = list.iter().enumerate();
                let items = items.map(|(at, item)| (Value::Int(at as i64), item));
                self.iterate(branch, dot, items)
            }
            Value::Map(map) => {
                let entries = self.heap.entries(map);
                let items = entries.map(|(key, value)| (Value::Str(key), value));
                self.iterate(branch, dot, items)
            }
            Value::Missing | Value::Nil => self.nodes(&branch.otherwise, dot),
            value => {
                let kind = value.type_name();
                Err(wrong(format!(
                    "range can't iterate over a value of type {kind}"
                )))
            }
        }
    }

    fn iterate(
        &mut self,
        branch: &'r Branch,
        dot: Value<'r>,
        items: impl Iterator<Item = (Value<'r>, Value<'r>)>,
    ) -> Result<Flow, Fault> {
        let mut is_empty = true;
        for (index, item) in items {
            is_empty = false;
            self.step(1)?;
            match *branch.pipe.sets {
                [] => {}
                [one] => self.set(one, item)?,
                [first, second, ..] => {
                    self.set(first, index)?;
                    self.set(second, item)?;
                }
            }
            match self.nodes(&branch.then, item)? {
                Flow::On | Flow::Continue => {}
                Flow::Break => break,
            }
        }
        if is_empty {
            return self.nodes(&branch.otherwise, dot);
        }
        Ok(Flow::On)
    }

    fn call_template(
        &mut self,
        name: &str,
        argument: Option<&'r Pipe>,
        at: usize,
        dot: Value<'r>,
    ) -> Result<(), Fault> {
        let named = self.named;
        let Some(body) = named.get(name) else {
            return Err(Fault::new(format!("template {name:?} not defined")).at(at));
        };
        let dot = match argument {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Missing,
        };
        if self.depth >= self.deepest {
            return Err(Fault::limit("templates call each other too deeply").at(at));
        }
        self.depth += 1;
        self.body(body, dot)?;
        self.depth -= 1;
        Ok(())
    }

    fn set(&mut self, Slot(slot): Slot, value: Value<'r>) -> Result<(), Fault> {
        let slot = slot.ok_or_else(|| Fault::new("undefined variable"))?;
        self.slots[self.base + slot] = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &'r Pipe, dot: Value<'r>) -> Result<Value<'r>, Fault> {
        self.deeper()?;
        let value = self.commands(&pipe.commands, dot)?;
        self.nested -= 1;
        let value = value.unwrap_or(Value::Missing);
        for slot in &pipe.sets {
            self.set(*slot, value).map_err(|fault| fault.at(pipe.at))?;
        }
        Ok(value)
    }

    /// What comes of commands that are each given what the one before came to.
    #[inline]
    fn commands(&mut self, commands: &'r [Command], dot: Value<'r>) -> Result<Final<'r>, Fault> {
        let mut value = None;
        for command in commands {
            let result = self.command(command, dot, value);
            value = Some(match result.map_err(|fault| fault.at(command.first.at))? {
                Value::Nil => Value::Missing, // As Go takes the value out of its interface.
                value => value,
            });
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &'r Command,
        dot: Value<'r>,
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        let arguments = &command.arguments;
        let no_arguments = |what: &str| {
            if arguments.is_empty() && given.is_none() {
                return Ok(());
            }
            Err(Fault::new(format!(
                "can't give argument to non-function {what}"
            )))
        };
        match &command.first.kind {
            ExprKind::Field(fields) => self.fields(dot, dot, fields, arguments, given),
            ExprKind::Variable(slot, fields) => {
                let value = self.variable(*slot)?;
                if fields.is_empty() {
                    no_arguments("a variable")?;
                    return Ok(value);
                }
                self.fields(dot, value, fields, arguments, given)
            }
            ExprKind::Chain(inner, fields) => {
                let value = self.chained(inner, dot)?;
                self.fields(dot, value, fields, arguments, given)
            }
            ExprKind::Function(function) => self.function(function, arguments, dot, given),
            ExprKind::Pipe(pipe) => {
                no_arguments("a pipeline")?;
                self.pipe(pipe, dot)
            }
            ExprKind::Dot => no_arguments(".").map(|()| dot),
            ExprKind::Nil => {
                no_arguments("nil")?;
                Err(Fault::new("nil is not a command"))
            }
            ExprKind::Bool(value) => no_arguments("a literal").map(|()| Value::Bool(*value)),
            ExprKind::Str(text) => no_arguments("a literal").map(|()| Value::Str(text)),
            ExprKind::Number(number) => {
                no_arguments("a literal")?;
                untyped(*number)
            }
        }
    }

    fn variable(&self, Slot(slot): Slot) -> Result<Value<'r>, Fault> {
        let slot = slot.ok_or_else(|| Fault::new("undefined variable"))?;
        Ok(self.slots[self.base + slot])
    }

    fn chained(&mut self, inner: &'r Expr, dot: Value<'r>) -> Result<Value<'r>, Fault> {
        match &inner.kind {
            ExprKind::Pipe(pipe) => self.pipe(pipe, dot),
            ExprKind::Function(function) => self.function(function, &[], dot, None),
            _ => Err(Fault::new("there are no fields of this")),
        }
    }

    /// `.a.b.c`; the last may be a method, which takes arguments.
    #[inline]
    fn fields(
        &mut self,
        dot: Value<'r>,
        mut value: Value<'r>,
        fields: &'r [Box<[u8]>],
        arguments: &'r [Expr],
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        let Some((last, before)) = fields.split_last() else {
            return Ok(value);
        };
        for field in before {
            value = self.field(dot, value, field, &[], None)?;
        }
        self.field(dot, value, last, arguments, given)
    }

    fn field(
        &mut self,
        dot: Value<'r>,
        value: Value<'r>,
        name: &'r [u8],
        arguments: &'r [Expr],
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        let shown = || String::from_utf8_lossy(name);
        match value {
            Value::Missing => return Ok(Value::Missing),
            Value::Nil => {
                let name = shown();
                return Err(Fault::new(format!(
                    "nil pointer evaluating interface {{}}.{name}"
                )));
            }
            Value::Map(map) => {
                if let Some(function) = method(value, name) {
                    return self.call_method(function, value, arguments, dot, given);
                }
                if arguments.is_empty() && given.is_none() {
                    return Ok(self.heap.get(map, name).unwrap_or(Value::Missing));
                }
                let name = shown();
                return Err(Fault::new(format!(
                    "{name} is not a method but has arguments"
                )));
            }
            Value::Certificate(certificate) => {
                if let Some(text) = certificate.field(name) {
                    return Ok(Value::Str(text));
                }
            }
            Value::Time(_) | Value::Version(_) => {
                if let Some(function) = method(value, name) {
                    return self.call_method(function, value, arguments, dot, given);
                }
            }
            _ => {}
        }
        let (name, kind) = (shown(), value.type_name());
        Err(Fault::new(format!(
            "can't evaluate field {name} in type {kind}"
        )))
    }

    fn call_method(
        &mut self,
        function: &'static Function,
        value: Value<'r>,
        arguments: &'r [Expr],
        dot: Value<'r>,
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        let mut values = vec![value];
        self.arguments(function, 1, arguments, dot, given, &mut values)?;
        (function.call)(self, &values)
    }

    fn function(
        &mut self,
        function: &'static Function,
        arguments: &'r [Expr],
        dot: Value<'r>,
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        self.step(1)?;
        if let Some(decides_on) = function.short_circuit {
            return self.decide(function, decides_on, arguments, dot, given);
        }
        let mut values = Given::new();
        self.arguments(function, 0, arguments, dot, given, &mut values)?;
        self.can_be_given(function, &values)?;
        let result = (function.call)(self, &values);
        result.map_err(|fault| fault.of(function.name))
    }

    /// `and` and `or`, which stop at the first that decides.
    fn decide(
        &mut self,
        function: &'static Function,
        decides_on: bool,
        arguments: &'r [Expr],
        dot: Value<'r>,
        given: Final<'r>,
    ) -> Result<Value<'r>, Fault> {
        if arguments.is_empty() && given.is_none() {
            return Err(function.wrong_number("at least 1", 0));
        }
        let mut value = Value::Missing;
        for argument in arguments {
            value = self.argument(argument, Parameter::Reflected, dot)?;
            if self.heap.truth(value) == decides_on {
                return Ok(value);
            }
        }
        Ok(given.unwrap_or(value))
    }

    /// Evaluates what is given to a function. The first `held` of its parameters are there already.
    fn arguments(
        &mut self,
        function: &'static Function,
        held: usize,
        arguments: &'r [Expr],
        dot: Value<'r>,
        given: Final<'r>,
        values: &mut impl Extend<Value<'r>>,
    ) -> Result<(), Fault> {
        let number = held + arguments.len() + usize::from(given.is_some());
        let fixed = function.parameters.len();
        match function.rest {
            None if number != fixed => {
                return Err(function.wrong_number(&(fixed - held).to_string(), number - held));
            }
            Some(_) if number < fixed => {
                let wanted = format!("at least {}", fixed - held);
                return Err(function.wrong_number(&wanted, number - held));
            }
            _ => {}
        }
        let parameter = |at: usize| {
            let fixed = function.parameters.get(at).copied();
            fixed.or(function.rest).unwrap_or(Parameter::Any)
        };
        for (at, argument) in arguments.iter().enumerate() {
            let value = self.argument(argument, parameter(held + at), dot)?;
            values.extend([value]);
        }
        if let Some(given) = given {
            values.extend([self.checked(given, parameter(number - 1))?]);
        }
        Ok(())
    }

    fn argument(
        &mut self,
        expr: &'r Expr,
        parameter: Parameter,
        dot: Value<'r>,
    ) -> Result<Value<'r>, Fault> {
        self.operand(expr, parameter, dot)
            .map_err(|fault| fault.at(expr.at))
    }

    fn operand(
        &mut self,
        expr: &'r Expr,
        parameter: Parameter,
        dot: Value<'r>,
    ) -> Result<Value<'r>, Fault> {
        let value = match &expr.kind {
            ExprKind::Dot => dot,
            ExprKind::Nil => {
                if parameter.may_be_nil() {
                    return Ok(Value::Missing);
                }
                let wanted = parameter.name();
                return Err(Fault::new(format!("cannot assign nil to {wanted}")));
            }
            ExprKind::Field(fields) => self.fields(dot, dot, fields, &[], None)?,
            ExprKind::Variable(slot, fields) => {
                let value = self.variable(*slot)?;
                self.fields(dot, value, fields, &[], None)?
            }
            ExprKind::Pipe(pipe) => self.pipe(pipe, dot)?,
            ExprKind::Function(function) => self.function(function, &[], dot, None)?,
            ExprKind::Chain(inner, fields) => {
                let value = self.chained(inner, dot)?;
                self.fields(dot, value, fields, &[], None)?
            }
            ExprKind::Bool(value) => return parameter.literal_bool(*value),
            ExprKind::Number(number) => return parameter.literal_number(*number),
            ExprKind::Str(text) => return parameter.literal_text(text),
        };
        self.checked(value, parameter)
    }

    /// Whether a value can be given for a parameter.
    fn checked(&self, value: Value<'r>, parameter: Parameter) -> Result<Value<'r>, Fault> {
        if parameter.takes(value) {
            return Ok(value);
        }
        let wanted = parameter.name();
        if let Value::Missing = value {
            if parameter.may_be_nil() {
                return Ok(value);
            }
            return Err(Fault::new(format!("invalid value; expected {wanted}")));
        }
        let got = match value {
            Value::Nil => "interface {}",
            value => value.type_name(),
        };
        Err(Fault::new(format!(
            "wrong type for value; expected {wanted}; got {got}"
        )))
    }
}

/// A number where nothing says which type it should have.
pub(crate) fn untyped<'r>(number: Number) -> Result<Value<'r>, Fault> {
    match number {
        Number {
            complex: Some((real, imaginary)),
            ..
        } => Ok(Value::Complex(real, imaginary)),
        Number {
            looks_like_float: true,
            float: Some(float),
            ..
        } => Ok(Value::Float(float)),
        Number { int: Some(int), .. } => Ok(Value::Int(int)),
        _ => Err(Fault::new("the number overflows int")),
    }
}

pub(crate) fn too_long() -> Fault {
    Fault::limit("the template writes more than it may")
}

/// What a template is given besides the document.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input<'a> {
    /// A value of JSON.
    Json(&'a Json),
    /// The members of an object.
    Object(&'a serde_json::Map<String, Json>),
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number, which is an `int` to the template, unlike numbers of JSON.
    Integer(i64),
    /// Texts.
    Texts(Vec<Cow<'a, str>>),
    /// Texts by name, with the methods of Go's `url.Values`: `Get`, `Has`, `Encode`.
    Form(BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>),
    /// Texts by name, with the methods of Go's `http.Header`: `Get`, `Values`.
    Headers(BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>),
    /// Nothing: what the document has under this name is not seen.
    Missing,
    /// Another one.
    Borrowed(&'a Input<'a>),
    /// More of them by name.
    Map(BTreeMap<Cow<'a, str>, Input<'a>>),
}

impl<'a> Input<'a> {
    /// The value that stands for it.
    pub(crate) fn value<'r>(&'r self, heap: &'r Heap<'r>) -> Result<Value<'r>, Fault>
    where
        'a: 'r,
    {
        use crate::value::{Items, MapKind};
        let texts = |texts: &'r [Cow<'a, str>]| {
            let texts = texts.iter().map(|text| Value::Str(text.as_bytes()));
            heap.list(&texts.collect::<Vec<_>>(), Items::Strings)
        };
        let lists = |kind, map: &'r BTreeMap<Cow<'a, str>, Vec<Cow<'a, str>>>| {
            let entries = map
                .iter()
                .map(|(name, values)| Ok((name.as_bytes(), texts(values)?)));
            let entries = entries.collect::<Result<_, Fault>>()?;
            Ok(Value::Map(Map::Own(heap.map(kind, entries)?)))
        };
        match self {
            Self::Missing => Ok(Value::Missing),
            Self::Json(json) => Ok((*json).into()),
            Self::Object(map) => Ok(Value::Map(Map::Json(map))),
            Self::Text(text) => Ok(Value::Str(text.as_bytes())),
            Self::Integer(number) => Ok(Value::Int(*number)),
            Self::Texts(all) => texts(all),
            Self::Borrowed(input) => input.value(heap),
            Self::Form(map) => lists(MapKind::Form, map),
            Self::Headers(map) => lists(MapKind::Headers, map),
            Self::Map(map) => {
                let entries = map
                    .iter()
                    .map(|(name, input)| Ok((name.as_bytes(), input.value(heap)?)));
                let entries = entries.collect::<Result<_, Fault>>()?;
                Ok(Value::Map(Map::Own(heap.map(MapKind::Any, entries)?)))
            }
        }
    }
}

/// The dot of a template: the members of a document, with what is given besides it among them.
pub(crate) fn root<'r>(
    heap: &'r Heap<'r>,
    mut members: Vec<Entry<'r>>,
    besides: &'r [(&'r str, Input<'r>)],
) -> Result<Value<'r>, Fault> {
    for (name, input) in besides {
        let name = name.as_bytes();
        members.retain(|(key, _)| *key != name);
        if !matches!(input, Input::Missing) {
            members.push((name, input.value(heap)?));
        }
    }
    heap.charge(size_of_val(members.as_slice()))?;
    members.sort_unstable_by_key(|(key, _)| *key);
    heap.members(&members)
}

/// The items of a list, where it is one.
pub(crate) fn list_of(value: Value<'_>) -> Option<List<'_>> {
    match value {
        Value::List(list) => Some(list),
        _ => None,
    }
}
