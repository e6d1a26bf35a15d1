//! The words in which [schemas](super::tables) are written.

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// A string of at most so many characters.
    Text(usize),
    /// A string of at least one character and at most so many.
    Filled(usize),
    /// One of these strings.
    Words(&'static [&'static str]),
    /// A boolean.
    Boolean,
    /// An integer of this range.
    Integer(i64, i64),
    /// A port: 1 to 65535.
    Port,
    /// An integer or a string: a port by its number or name.
    NumberOrName,
    /// A number of this range.
    Number(f64, f64),
    /// A duration (`10s`, `1h30m`), and the smallest allowed, in milliseconds.
    Duration(u64),
    /// A list of at most so many.
    List(&'static Type, usize),
    /// A mapping with at most so many keys of the user's choice.
    Map(&'static Type, usize),
    /// A mapping with known fields.
    Object(&'static Object),
}

/// The fields of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Its fields.
    pub fields: &'static [Field],
    /// Of each of these groups, at most one field may be given.
    pub one_of: &'static [&'static [&'static str]],
    /// Whether fields that are not named here are passed over.
    pub open: bool,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it may hold.
    pub holds: Type,
    /// Whether it must be given.
    pub required: bool,
    /// What Istio's webhook says when it is missing; empty when it says nothing of its own.
    pub missing: &'static str,
}

impl Field {
    /// The same, with what Istio's webhook says when it is missing.
    pub const fn or(self, missing: &'static str) -> Self {
        Self { missing, ..self }
    }
}

impl Object {
    /// A mapping with exactly these fields.
    pub const fn of(fields: &'static [Field]) -> Self {
        Self { fields, one_of: &[], open: false }
    }

    /// A mapping with these fields and any others.
    pub const fn open(fields: &'static [Field]) -> Self {
        Self { fields, one_of: &[], open: true }
    }

    /// The same, with groups of which at most one field may be given.
    pub const fn one_of(self, groups: &'static [&'static [&'static str]]) -> Self {
        Self { one_of: groups, ..self }
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// An optional field.
pub const fn field(name: &'static str, holds: Type) -> Field {
    Field { name, holds, required: false, missing: "" }
}

/// A field that must be given.
pub const fn required(name: &'static str, holds: Type) -> Field {
    Field { name, holds, required: true, missing: "" }
}

/// Any string.
pub const TEXT: Type = Type::Text(usize::MAX);
/// A list of strings.
pub const TEXTS: Type = Type::List(&TEXT, usize::MAX);
/// A mapping of strings.
pub const LABELS: Type = Type::Map(&TEXT, usize::MAX);
/// A message without fields.
pub const EMPTY: Object = Object::open(&[]);
/// `true` or `false`.
pub const BOOLEAN: Type = Type::Boolean;
/// `int32`.
pub const INT32: Type = Type::Integer(i32::MIN as i64, i32::MAX as i64);
/// `uint32`.
pub const UINT32: Type = Type::Integer(0, u32::MAX as i64);
/// `uint64`, as far as anyone writes it.
pub const UINT64: Type = Type::Integer(0, i64::MAX);
/// `int64`.
pub const INT64: Type = Type::Integer(i64::MIN, i64::MAX);
/// A port.
pub const PORT: Type = Type::Port;
/// A number.
pub const NUMBER: Type = Type::Number(f64::MIN, f64::MAX);
/// A duration from nothing upwards.
pub const DURATION: Type = Type::Duration(0);
/// A duration of at least a millisecond.
pub const POSITIVE_DURATION: Type = Type::Duration(1);

/// A list without a bound.
pub const fn list(of: &'static Type) -> Type {
    Type::List(of, usize::MAX)
}

/// A list of mappings without a bound.
pub const fn object(of: &'static Object) -> Type {
    Type::Object(of)
}
