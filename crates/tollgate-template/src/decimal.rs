//! Decimal numbers of any length, as `shopspring/decimal` has them.

use num_bigint::{BigInt, Sign};

/// So many digits behind the point a quotient has.
const DIVISION_PRECISION: i64 = 16;

/// How long a number may become, in bits.
const LONGEST: u64 = 100_000;

/// `value * 10^exponent`
#[derive(Clone, Debug)]
pub(crate) struct Decimal {
    value: BigInt,
    exponent: i64,
}

impl Decimal {
    /// The number with the shortest digits that read back; none where it is no number.
    pub(crate) fn from_float(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        let written = format!("{value:e}");
        let (mantissa, exponent) = written.split_once('e')?;
        let exponent: i64 = exponent.parse().ok()?;
        let digits = mantissa.replace('.', "");
        let part = mantissa.split_once('.').map_or(0, |(_, part)| part.len());
        Some(Self {
            value: digits.parse().ok()?,
            exponent: exponent - i64::try_from(part).ok()?,
        })
    }

    pub(crate) fn to_float(&self) -> f64 {
        let (value, exponent) = (&self.value, self.exponent);
        format!("{value}e{exponent}").parse().unwrap_or(f64::NAN)
    }

    pub(crate) fn is_huge(&self) -> bool {
        self.value.bits() > LONGEST
    }

    /// The value for a smaller exponent.
    fn scaled(&self, exponent: i64) -> BigInt {
        let by = u32::try_from(self.exponent - exponent).unwrap_or(0);
        &self.value * BigInt::from(10).pow(by)
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        let exponent = self.exponent.min(other.exponent);
        let value = self.scaled(exponent) + other.scaled(exponent);
        Self { value, exponent }
    }

    pub(crate) fn sub(&self, other: &Self) -> Self {
        let negated = Self {
            value: -&other.value,
            exponent: other.exponent,
        };
        self.add(&negated)
    }

    pub(crate) fn mul(&self, other: &Self) -> Self {
        Self {
            value: &self.value * &other.value,
            exponent: self.exponent + other.exponent,
        }
    }

    /// Half away from zero; none where the divisor is zero.
    pub(crate) fn div(&self, other: &Self) -> Option<Self> {
        if other.value.sign() == Sign::NoSign {
            return None;
        }
        // value = self * 10^(16 + self.exponent - other.exponent) / other
        let shift = DIVISION_PRECISION + self.exponent - other.exponent;
        let power = BigInt::from(10).pow(u32::try_from(shift.unsigned_abs()).ok()?);
        let (dividend, divisor) = if shift >= 0 {
            (&self.value * power, other.value.clone())
        } else {
            (self.value.clone(), &other.value * power)
        };
        let (quotient, rest) = (&dividend / &divisor, &dividend % &divisor);
        let rounds = rest.magnitude() * 2_u32 >= *divisor.magnitude();
        let is_negative = (dividend.sign() == Sign::Minus) != (divisor.sign() == Sign::Minus);
        let value = match (rounds, is_negative) {
            (false, _) => quotient,
            (true, true) => quotient - 1,
            (true, false) => quotient + 1,
        };
        Some(Self {
            value,
            exponent: -DIVISION_PRECISION,
        })
    }
}
