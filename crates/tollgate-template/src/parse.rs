//! From tokens to a tree, by the grammar of Go's `text/template/parse`.

use std::collections::BTreeMap;

use crate::{
    funcs::{Function, Functions},
    lex::{Keyword, Kind, Lexer, Token, Wrong},
    literal::{number, rune, unquote},
    tree::{Body, Branch, Command, Expr, ExprKind, Fields, Node, Nodes, Pipe, Slot},
};

/// How deeply parentheses and blocks may be nested.
const DEEPEST: usize = 100;

/// The templates that a text defines; the text itself is the first.
pub(crate) struct Parsed {
    pub(crate) main: Body,
    pub(crate) named: BTreeMap<Box<str>, Body>,
}

/// Says of a text whether it is made anew for each rendering, and under which number.
pub(crate) type Texts<'t> = &'t mut dyn FnMut(&[u8]) -> Option<usize>;

pub(crate) fn parse<'t>(
    text: &'t [u8],
    functions: &'t Functions,
    texts: Texts<'t>,
) -> Result<Parsed, Wrong> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        back: Vec::new(),
        functions,
        texts,
        named: BTreeMap::new(),
        frame: Frame::new(),
        depth: 0,
    };
    let main = parser.main()?;
    Ok(Parsed {
        main,
        named: parser.named,
    })
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    /// Tokens that were given back, the next one last.
    back: Vec<Token<'t>>,
    functions: &'t Functions,
    texts: Texts<'t>,
    named: BTreeMap<Box<str>, Body>,
    frame: Frame<'t>,
    depth: usize,
}

/// What is known while one template is parsed.
struct Frame<'t> {
    variables: Vec<(&'t [u8], Slot)>,
    slots: usize,
    ranges: usize,
}

impl Frame<'_> {
    fn new() -> Self {
        Self {
            variables: vec![(b"$", Slot(Some(0)))],
            slots: 1,
            ranges: 0,
        }
    }

    fn body(self, nodes: Nodes) -> Body {
        Body {
            nodes,
            slots: self.slots,
        }
    }
}

/// What ended a list of nodes.
#[derive(Clone, Copy)]
enum Ended {
    End,
    Else,
}

/// A node, or what ends a list of them.
enum Item {
    Node(Node),
    Ended(Ended),
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Result<Token<'t>, Wrong> {
        self.back.pop().map_or_else(|| self.lexer.next(), Ok)
    }

    fn back(&mut self, token: Token<'t>) {
        self.back.push(token);
    }

    fn peek(&mut self) -> Result<Token<'t>, Wrong> {
        let token = self.next()?;
        self.back(token);
        Ok(token)
    }

    fn next_solid(&mut self) -> Result<Token<'t>, Wrong> {
        loop {
            let token = self.next()?;
            if token.kind != Kind::Space {
                return Ok(token);
            }
        }
    }

    fn peek_solid(&mut self) -> Result<Token<'t>, Wrong> {
        let token = self.next_solid()?;
        self.back(token);
        Ok(token)
    }

    /// One more level; what is nested too deeply is no template.
    fn deeper<T>(
        &mut self,
        at: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        if self.depth >= DEEPEST {
            return Err((at, "max expression depth exceeded".into()));
        }
        self.depth += 1;
        let parsed = inner(self);
        self.depth -= 1;
        parsed
    }

    fn main(&mut self) -> Result<Body, Wrong> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::End => break,
                Kind::Left => {
                    let keyword = self.next_solid()?;
                    if keyword.kind == Kind::Keyword(Keyword::Define) {
                        self.definition()?;
                        continue;
                    }
                    self.back(keyword);
                }
                _ => {}
            }
            self.back(token);
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ended(ended) => {
                    let what = ended.name();
                    return Err((token.at, format!("unexpected {what}")));
                }
            }
        }
        let frame = std::mem::replace(&mut self.frame, Frame::new());
        Ok(frame.body(nodes.into()))
    }

    fn definition(&mut self) -> Result<(), Wrong> {
        const CONTEXT: &str = "define clause";
        let token = self.next_solid()?;
        let name = self.template_name(token, CONTEXT)?;
        self.expect_right(CONTEXT)?;
        self.define(name, token.at, CONTEXT)
    }

    /// The body of a template with a name, up to its end.
    fn define(&mut self, name: Box<str>, at: usize, context: &str) -> Result<(), Wrong> {
        let outer = std::mem::replace(&mut self.frame, Frame::new());
        let (nodes, ended) = self.deeper(at, Self::list)?;
        let frame = std::mem::replace(&mut self.frame, outer);
        if let Ended::Else = ended {
            return Err((at, format!("unexpected {{{{else}}}} in {context}")));
        }
        let body = frame.body(nodes);
        match self.named.get(&name) {
            Some(old) if !is_empty(&old.nodes) => {
                if is_empty(&body.nodes) {
                    return Ok(());
                }
                let message = format!("multiple definition of template {name:?}");
                Err((at, message))
            }
            _ => {
                self.named.insert(name, body);
                Ok(())
            }
        }
    }

    fn list(&mut self) -> Result<(Nodes, Ended), Wrong> {
        let mut nodes = Vec::new();
        loop {
            let token = self.peek_solid()?;
            if token.kind == Kind::End {
                return Err((token.at, "unexpected EOF".into()));
            }
            match self.text_or_action()? {
                Item::Node(node) => nodes.push(node),
                Item::Ended(ended) => return Ok((nodes.into(), ended)),
            }
        }
    }

    fn text_or_action(&mut self) -> Result<Item, Wrong> {
        let token = self.next_solid()?;
        match token.kind {
            Kind::Text => Ok(Item::Node(match (self.texts)(token.text) {
                Some(number) => Node::Filled(number),
                None => Node::Text(token.text.into()),
            })),
            Kind::Left => self.action(),
            _ => Err(unexpected(token, "input")),
        }
    }

    fn action(&mut self) -> Result<Item, Wrong> {
        let token = self.next_solid()?;
        let node = match token.kind {
            Kind::Keyword(Keyword::Block) => self.block()?,
            Kind::Keyword(Keyword::Break) => self.jump(token, "{{break}}", Node::Break)?,
            Kind::Keyword(Keyword::Continue) => self.jump(token, "{{continue}}", Node::Continue)?,
            Kind::Keyword(Keyword::Else) => {
                let peeked = self.peek_solid()?;
                let goes_on = [Keyword::If, Keyword::With].map(Kind::Keyword);
                if !goes_on.contains(&peeked.kind) {
                    self.expect_right("else")?;
                }
                return Ok(Item::Ended(Ended::Else));
            }
            Kind::Keyword(Keyword::End) => {
                self.expect_right("end")?;
                return Ok(Item::Ended(Ended::End));
            }
            Kind::Keyword(Keyword::If) => Node::If(self.control("if", token.at)?),
            Kind::Keyword(Keyword::With) => Node::With(self.control("with", token.at)?),
            Kind::Keyword(Keyword::Range) => Node::Range(self.control("range", token.at)?),
            Kind::Keyword(Keyword::Template) => self.call()?,
            _ => {
                self.back(token);
                Node::Action(self.pipe("command", Kind::Right)?)
            }
        };
        Ok(Item::Node(node))
    }

    fn jump(&mut self, token: Token<'t>, name: &str, node: Node) -> Result<Node, Wrong> {
        let next = self.next_solid()?;
        if next.kind != Kind::Right {
            return Err(unexpected(next, name));
        }
        if self.frame.ranges == 0 {
            return Err((token.at, format!("{name} outside {{{{range}}}}")));
        }
        Ok(node)
    }

    fn control(&mut self, context: &'static str, at: usize) -> Result<Branch, Wrong> {
        self.deeper(at, |parser| {
            let variables = parser.frame.variables.len();
            let branch = parser.branch(context);
            parser.frame.variables.truncate(variables);
            branch
        })
    }

    fn branch(&mut self, context: &'static str) -> Result<Branch, Wrong> {
        let pipe = self.pipe(context, Kind::Right)?;
        let is_range = context == "range";
        self.frame.ranges += usize::from(is_range);
        let (then, ended) = self.list()?;
        self.frame.ranges -= usize::from(is_range);
        let otherwise = match ended {
            Ended::End => Nodes::default(),
            Ended::Else => self.otherwise(context)?,
        };
        Ok(Branch {
            pipe,
            then,
            otherwise,
        })
    }

    fn otherwise(&mut self, context: &'static str) -> Result<Nodes, Wrong> {
        let peeked = self.peek_solid()?;
        let (goes_on, node): (_, fn(Branch) -> Node) = match context {
            "if" => (Kind::Keyword(Keyword::If), Node::If),
            "with" => (Kind::Keyword(Keyword::With), Node::With),
            _ => (Kind::End, Node::Range), // A range has no such thing.
        };
        if peeked.kind == goes_on {
            self.next_solid()?;
            return Ok([node(self.control(context, peeked.at)?)].into());
        }
        let (nodes, ended) = self.list()?;
        match ended {
            Ended::End => Ok(nodes),
            Ended::Else => Err((peeked.at, "expected end; found {{else}}".into())),
        }
    }

    fn block(&mut self) -> Result<Node, Wrong> {
        const CONTEXT: &str = "block clause";
        let token = self.next_solid()?;
        let name = self.template_name(token, CONTEXT)?;
        let argument = Some(self.pipe(CONTEXT, Kind::Right)?);
        self.define(name.clone(), token.at, CONTEXT)?;
        let at = token.at;
        Ok(Node::Call { name, argument, at })
    }

    fn call(&mut self) -> Result<Node, Wrong> {
        const CONTEXT: &str = "template clause";
        let token = self.next_solid()?;
        let name = self.template_name(token, CONTEXT)?;
        let next = self.next_solid()?;
        let argument = if next.kind == Kind::Right {
            None
        } else {
            self.back(next);
            Some(self.pipe(CONTEXT, Kind::Right)?)
        };
        let at = token.at;
        Ok(Node::Call { name, argument, at })
    }

    fn template_name(&mut self, token: Token<'t>, context: &str) -> Result<Box<str>, Wrong> {
        match token.kind {
            Kind::Str | Kind::Raw => {
                let name = unquote(token.text).map_err(|message| (token.at, message))?;
                Ok(String::from_utf8_lossy(&name).into())
            }
            _ => Err(unexpected(token, context)),
        }
    }

    fn expect_right(&mut self, context: &str) -> Result<(), Wrong> {
        let token = self.next_solid()?;
        match token.kind {
            Kind::Right => Ok(()),
            _ => Err(unexpected(token, context)),
        }
    }

    fn pipe(&mut self, context: &'static str, end: Kind) -> Result<Pipe, Wrong> {
        let at = self.peek_solid()?.at;
        let (mut sets, declared) = self.declarations(context)?;
        let mut commands = Vec::<Command>::new();
        loop {
            let token = self.next_solid()?;
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::Rune
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::Raw
                | Kind::Str
                | Kind::Variable
                | Kind::LeftParen => {
                    self.back(token);
                    commands.push(self.command()?);
                }
                _ => return Err(unexpected(token, context)),
            }
        }
        if commands.is_empty() {
            return Err((at, format!("missing value for {context}")));
        }
        let takes_nothing = |command: &Command| {
            use ExprKind::{Bool, Dot, Nil, Number, Str};
            matches!(command.first.kind, Bool(_) | Dot | Nil | Number(_) | Str(_))
        };
        if let Some(stage) = commands[1..].iter().position(takes_nothing) {
            let message = format!("non executable command in pipeline stage {}", stage + 2);
            return Err((at, message));
        }
        let new = declared
            .into_iter()
            .map(|name| self.frame.slots_of_new(name));
        sets.extend(new);
        Ok(Pipe {
            sets: sets.into(),
            commands: commands.into(),
            at,
        })
    }

    /// `$x :=`, `$x =`, and for a range `$x, $y :=`: the variables that are set, and the names of those that are new.
    /// In what a new one is set to, its name is still that of the one before.
    fn declarations(&mut self, context: &'static str) -> Result<(Vec<Slot>, Vec<&'t [u8]>), Wrong> {
        let mut names = Vec::<&'t [u8]>::new();
        loop {
            let variable = self.peek_solid()?;
            if variable.kind != Kind::Variable {
                break;
            }
            self.next_solid()?;
            let behind = self.peek()?;
            let next = self.peek_solid()?;
            match next.kind {
                Kind::Assign | Kind::Declare => {
                    self.next_solid()?;
                    names.push(variable.text);
                    let slots = names.iter().map(|name| self.frame.assigned(name));
                    let slots = slots.collect();
                    return Ok(match next.kind {
                        Kind::Declare => (Vec::new(), names),
                        _ => (slots, Vec::new()),
                    });
                }
                Kind::Char if next.text == b"," => {
                    self.next_solid()?;
                    names.push(variable.text);
                    if context != "range" || names.len() >= 2 {
                        let message = format!("too many declarations in {context}");
                        return Err((next.at, message));
                    }
                    match self.peek_solid()?.kind {
                        Kind::Variable => {}
                        Kind::Right | Kind::RightParen => break,
                        _ => return Err((next.at, "range can only initialize variables".into())),
                    }
                }
                _ => {
                    if behind.kind == Kind::Space {
                        self.back(behind);
                    }
                    self.back(variable);
                    break;
                }
            }
        }
        Ok((Vec::new(), Vec::new()))
    }

    fn command(&mut self) -> Result<Command, Wrong> {
        let at = self.peek_solid()?.at;
        let mut operands = Vec::new();
        loop {
            self.peek_solid()?; // Leads over spaces.
            operands.extend(self.operand()?);
            let token = self.next()?;
            match token.kind {
                Kind::Space => {}
                Kind::Right | Kind::RightParen => {
                    self.back(token);
                    break;
                }
                Kind::Pipe => break,
                _ => return Err(unexpected(token, "operand")),
            }
        }
        let mut operands = operands.into_iter();
        let Some(first) = operands.next() else {
            return Err((at, "empty command".into()));
        };
        Ok(Command {
            first,
            arguments: operands.collect(),
        })
    }

    fn operand(&mut self) -> Result<Option<Expr>, Wrong> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        let at = self.peek()?;
        if at.kind != Kind::Field {
            return Ok(Some(term));
        }
        let mut fields = Vec::new();
        while self.peek()?.kind == Kind::Field {
            fields.push(self.next()?.text[1..].into());
        }
        let longer = |old: Fields, new: Vec<Box<[u8]>>| old.into_iter().chain(new).collect();
        let kind = match term.kind {
            ExprKind::Field(old) => ExprKind::Field(longer(old, fields)),
            ExprKind::Variable(slot, old) => ExprKind::Variable(slot, longer(old, fields)),
            ExprKind::Bool(_)
            | ExprKind::Str(_)
            | ExprKind::Number(_)
            | ExprKind::Nil
            | ExprKind::Dot => return Err((at.at, "unexpected . after term".into())),
            _ => {
                let fields = fields.into();
                return Ok(Some(Expr {
                    at: at.at,
                    kind: ExprKind::Chain(Box::new(term), fields),
                }));
            }
        };
        Ok(Some(Expr { at: term.at, kind }))
    }

    fn term(&mut self) -> Result<Option<Expr>, Wrong> {
        let token = self.next_solid()?;
        let wrong = |message: String| (token.at, message);
        let kind = match token.kind {
            Kind::Identifier => ExprKind::Function(self.function(token)?),
            Kind::Dot => ExprKind::Dot,
            Kind::Nil => ExprKind::Nil,
            Kind::Variable => ExprKind::Variable(self.variable(token)?, Fields::default()),
            Kind::Field => ExprKind::Field([token.text[1..].into()].into()),
            Kind::Bool => ExprKind::Bool(token.text == b"true"),
            Kind::Rune => ExprKind::Number(rune(token.text).map_err(wrong)?),
            Kind::Number | Kind::Complex => ExprKind::Number(number(token.text).map_err(wrong)?),
            Kind::LeftParen => {
                let context = "parenthesized pipeline";
                let inner = |parser: &mut Self| parser.pipe(context, Kind::RightParen);
                ExprKind::Pipe(Box::new(self.deeper(token.at, inner)?))
            }
            Kind::Str | Kind::Raw => ExprKind::Str(unquote(token.text).map_err(wrong)?.into()),
            _ => {
                self.back(token);
                return Ok(None);
            }
        };
        Ok(Some(Expr { at: token.at, kind }))
    }

    fn function(&self, token: Token<'t>) -> Result<&'static Function, Wrong> {
        let name = String::from_utf8_lossy(token.text);
        self.functions
            .find(&name)
            .map_err(|message| (token.at, message))
    }

    fn variable(&self, token: Token<'t>) -> Result<Slot, Wrong> {
        let variables = self.frame.variables.iter().rev();
        let found = variables.into_iter().find(|(name, _)| *name == token.text);
        found.map(|(_, slot)| *slot).ok_or_else(|| {
            let name = String::from_utf8_lossy(token.text);
            (token.at, format!("undefined variable {name:?}"))
        })
    }
}

impl<'t> Frame<'t> {
    fn slots_of_new(&mut self, name: &'t [u8]) -> Slot {
        let slot = Slot(Some(self.slots));
        self.slots += 1;
        self.variables.push((name, slot));
        slot
    }

    /// As in Go, a name that is assigned counts as known from there on; whether there is such a variable
    /// is found out when the template is rendered.
    fn assigned(&mut self, name: &'t [u8]) -> Slot {
        let variables = self.variables.iter().rev();
        let found = variables.into_iter().find(|(other, _)| *other == name);
        let slot = found.map_or(Slot(None), |(_, slot)| *slot);
        self.variables.push((name, slot));
        slot
    }
}

impl Ended {
    fn name(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

/// Whether nothing but space is there.
fn is_empty(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| match node {
        Node::Text(text) => text.trim_ascii().is_empty(),
        _ => false,
    })
}

fn unexpected(token: Token<'_>, context: &str) -> Wrong {
    let text = String::from_utf8_lossy(token.text);
    let message = match token.kind {
        Kind::End => "unexpected EOF".into(),
        Kind::Keyword(_) => format!("unexpected <{text}> in {context}"),
        _ => format!("unexpected {text:?} in {context}"),
    };
    (token.at, message)
}
