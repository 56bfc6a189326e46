//! A parsed template, ready to be rendered: functions are found, variables have their places.

use crate::funcs::Function;

/// Nodes, in their order.
pub(crate) type Nodes = Box<[Node]>;

#[derive(Debug)]
pub(crate) enum Node {
    Text(Box<[u8]>),
    /// A text that is made anew for each rendering, by its number.
    Filled(usize),
    /// An action. It prints its value unless it declares a variable.
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    /// `{{template "name" pipe}}`
    Call {
        name: Box<str>,
        argument: Option<Pipe>,
        at: usize,
    },
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) pipe: Pipe,
    pub(crate) then: Nodes,
    pub(crate) otherwise: Nodes,
}

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Where the variables are that it sets.
    pub(crate) sets: Box<[Slot]>,
    pub(crate) commands: Box<[Command]>,
    pub(crate) at: usize,
}

/// The place of a variable; none where it is assigned without having been declared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(pub(crate) Option<usize>);

/// An operand and what is given to it.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) first: Expr,
    pub(crate) arguments: Box<[Expr]>,
}

#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) kind: ExprKind,
}

/// The names of fields behind each other.
pub(crate) type Fields = Box<[Box<[u8]>]>;

#[derive(Debug)]
pub(crate) enum ExprKind {
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Str(Box<[u8]>),
    Field(Fields),
    Variable(Slot, Fields),
    Function(&'static Function),
    Pipe(Box<Pipe>),
    Chain(Box<Expr>, Fields),
}

/// A number, as each of the types that it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number {
    pub(crate) int: Option<i64>,
    pub(crate) float: Option<f64>,
    pub(crate) complex: Option<(f64, f64)>,
    /// Where nothing else says which type it has, it is a float.
    pub(crate) looks_like_float: bool,
}

/// What a text defines.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) nodes: Nodes,
    /// How many places its variables need.
    pub(crate) slots: usize,
}
