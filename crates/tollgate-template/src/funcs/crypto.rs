//! Hashes, encodings, encryption and what is drawn by lot.

use aes::{
    Aes256,
    cipher::{BlockDecrypt, BlockEncrypt, KeyInit, generic_array::GenericArray},
};
use base64::{
    Engine,
    alphabet::STANDARD as ALPHABET,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use sha2::Digest;

use super::{Answer, Function, Int, Str, int_of, of, str_of, text_of};
use crate::{error::Fault, render::Render, value::Value};

pub(super) const ALL: &[Function] = &[
    of("b64enc", &[Str], |render, given| {
        render.heap.str(STANDARD.encode(text_of(given[0])))
    }),
    of("b64dec", &[Str], |render, given| {
        render
            .heap
            .str(from_base64(text_of(given[0])).unwrap_or_else(broken("base64")))
    }),
    of("b32enc", &[Str], |render, given| {
        render.heap.str(to_base32(text_of(given[0])))
    }),
    of("b32dec", &[Str], |render, given| {
        render
            .heap
            .str(from_base32(text_of(given[0])).unwrap_or_else(broken("base32")))
    }),
    of("sha1sum", &[Str], |render, given| {
        hashed(render, &sha1::Sha1::digest(text_of(given[0])))
    }),
    of("sha256sum", &[Str], |render, given| {
        hashed(render, &sha2::Sha256::digest(text_of(given[0])))
    }),
    of("sha512sum", &[Str], |render, given| {
        hashed(render, &sha2::Sha512::digest(text_of(given[0])))
    }),
    of("adler32sum", &[Str], |render, given| {
        let (mut low, mut high) = (1_u32, 0_u32);
        for byte in text_of(given[0]) {
            low = (low + u32::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        render.heap.str((high << 16 | low).to_string())
    }),
    of("encryptAES", &[Str, Str], encrypt),
    of("decryptAES", &[Str, Str], decrypt),
    of("uuidv4", &[], |render, _| {
        let mut bytes = random(16)?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        render.heap.str(parts.join("-"))
    }),
    of("randBytes", &[Int], |render, given| {
        let bytes = random(count(render, given[0])?)?;
        render.heap.str(STANDARD.encode(bytes))
    }),
    of("randAlphaNum", &[Int], |render, given| {
        drawn(render, given, |char| char.is_ascii_alphanumeric())
    }),
    of("randAlpha", &[Int], |render, given| {
        drawn(render, given, |char| char.is_ascii_alphabetic())
    }),
    of("randAscii", &[Int], |render, given| {
        drawn(render, given, |char| (32..127).contains(&char))
    }),
    of("randNumeric", &[Int], |render, given| {
        drawn(render, given, |char| char.is_ascii_digit())
    }),
    of("randInt", &[Int, Int], |_, given| {
        let (least, end) = (int_of(given[0]), int_of(given[1]));
        let span = u64::try_from(i128::from(end) - i128::from(least)).unwrap_or(0);
        if span == 0 {
            return Err(Fault::new("invalid argument to Intn"));
        }
        let number = below(span)?;
        Ok(Value::Int(least.wrapping_add_unsigned(number)))
    }),
    of("shuffle", &[Str], |render, given| {
        let mut chars: Vec<char> = str_of(given[0]).chars().collect();
        render.step(chars.len())?;
        for at in (1..chars.len()).rev() {
            let other = usize::try_from(below(at as u64 + 1)?).unwrap_or(0);
            chars.swap(at, other);
        }
        render.heap.str(chars.into_iter().collect::<String>())
    }),
    of("bcrypt", &[Str], super::costly::bcrypt).costly(),
    of("htpasswd", &[Str, Str], super::costly::htpasswd).costly(),
    of(
        "derivePassword",
        &[Int, Str, Str, Str, Str],
        super::costly::derive_password,
    )
    .costly(),
    of("genPrivateKey", &[Str], super::costly::private_key).costly(),
    of("genCA", &[Str, Int], super::costly::authority).costly(),
    of("genCAWithKey", &[Str, Int, Str], super::costly::authority).costly(),
    of(
        "genSelfSignedCert",
        &[Str, super::List, super::List, Int],
        super::costly::self_signed,
    )
    .costly(),
    of(
        "genSelfSignedCertWithKey",
        &[Str, super::List, super::List, Int, Str],
        super::costly::self_signed,
    )
    .costly(),
    of(
        "genSignedCert",
        &[Str, super::List, super::List, Int, super::Certificate],
        super::costly::signed,
    )
    .costly(),
    of(
        "genSignedCertWithKey",
        &[Str, super::List, super::List, Int, super::Certificate, Str],
        super::costly::signed,
    )
    .costly(),
    of("buildCustomCert", &[Str, Str], super::costly::custom).costly(),
];

/// What a decoder gives of a broken text: as in sprig, what is wrong with it.
fn broken(encoding: &'static str) -> impl FnOnce(usize) -> Vec<u8> {
    move |at| format!("illegal {encoding} data at input byte {at}").into_bytes()
}

/// As Go's `base64.StdEncoding`: line breaks are passed over. Fails with where it is broken.
fn from_base64(text: &[u8]) -> Result<Vec<u8>, usize> {
    let engine = GeneralPurpose::new(
        &ALPHABET,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let kept: Vec<u8> = text.iter().copied().filter(|byte| is_kept(*byte)).collect();
    engine.decode(&kept).map_err(|_| broken_base64(text))
}

/// Whether a byte counts in a text of base64 or base32.
fn is_kept(byte: u8) -> bool {
    !matches!(byte, b'\r' | b'\n')
}

/// Where Go finds a text of base64 broken: at the first byte that has no place there, or at the start of the last
/// digits, where some are missing.
fn broken_base64(text: &[u8]) -> usize {
    let is_digit = |byte: u8| ALPHABET.as_str().as_bytes().contains(&byte);
    let mut kept = (0..).zip(text).filter(|(_, byte)| is_kept(**byte));
    let mut digits = 0;
    loop {
        match kept.next() {
            Some((_, byte)) if is_digit(*byte) => digits = (digits + 1) % 4,
            Some((_, b'=')) if digits == 3 => break,
            Some((_, b'=')) if digits == 2 => match kept.next() {
                Some((_, b'=')) => break,
                Some((second, _)) => return second - 1,
                None => return text.len(),
            },
            Some((at, _)) => return at,
            None => return text.len() - digits,
        }
    }
    kept.next().map_or(text.len(), |(at, _)| at)
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn to_base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut all = [0; 8];
        all[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(all);
        let digits = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let digit = usize::try_from(bits >> (35 - 5 * at) & 31).unwrap_or(0);
            out.push(if at < digits {
                char::from(BASE32[digit])
            } else {
                '='
            });
        }
    }
    out
}

/// As Go's `base32.StdEncoding`: line breaks are passed over. Fails with where it is broken.
fn from_base32(text: &[u8]) -> Result<Vec<u8>, usize> {
    let kept: Vec<u8> = text.iter().copied().filter(|byte| is_kept(*byte)).collect();
    let mut out = Vec::with_capacity(kept.len() * 5 / 8);
    for (at, chunk) in kept.chunks(8).enumerate() {
        let start = at * 8;
        let mut bits = 0_u64;
        let mut digits = 0;
        while let Some(byte) = chunk
            .get(digits)
            .filter(|byte| **byte != b'=' || digits < 2)
        {
            let digit = BASE32.iter().position(|known| known == byte);
            bits |= (digit.ok_or(start + digits)? as u64) << (35 - 5 * digits);
            digits += 1;
        }
        out.extend_from_slice(&bits.to_be_bytes()[3..3 + digits * 5 / 8]);
        if digits == 8 {
            continue;
        }
        let end = start + digits;
        let Some(rest) = kept.get(end + 1..) else {
            return Err(start);
        };
        if rest.len() >= 8 {
            return Err(end);
        }
        let padding = rest.get(..7 - digits).ok_or(kept.len())?;
        if let Some(other) = padding.iter().position(|byte| *byte != b'=') {
            return Err(end + other);
        }
        if matches!(digits, 3 | 6) {
            return Err(end);
        }
        break; // What follows the padding is not looked at.
    }
    Ok(out)
}

fn hashed<'r>(render: &mut Render<'r>, hash: &[u8]) -> Answer<'r> {
    render.step(16)?;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    render.heap.str(hex)
}

/// How many are wanted, where that many may be made.
fn count(render: &Render<'_>, value: Value<'_>) -> Result<usize, Fault> {
    let count = usize::try_from(int_of(value));
    let count = count.map_err(|_| Fault::new("a count is not negative"))?;
    if count > render.heap.left() / 4 {
        return Err(render.heap.too_much());
    }
    Ok(count)
}

fn random(length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|_| Fault::new("there is no randomness"))?;
    Ok(bytes)
}

/// A number below another, each as likely.
fn below(end: u64) -> Result<u64, Fault> {
    let most = u64::MAX - u64::MAX % end;
    loop {
        let bytes = random(8)?;
        let number = bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        if number < most {
            return Ok(number % end);
        }
    }
}

fn drawn<'r>(
    render: &mut Render<'r>,
    given: &[Value<'r>],
    is_wanted: fn(u8) -> bool,
) -> Answer<'r> {
    let count = count(render, given[0])?;
    render.step(count)?;
    let mut text = Vec::with_capacity(count);
    while text.len() < count {
        let bytes = random(4 * (count - text.len()) + 16)?;
        let wanted = bytes
            .into_iter()
            .map(|byte| byte & 0x7f)
            .filter(|byte| is_wanted(*byte));
        text.extend(wanted.take(count - text.len()));
    }
    render.heap.str(text)
}

/// The password as the key: 32 bytes, cut or filled with zeros.
fn cipher(password: &[u8]) -> Aes256 {
    let mut key = [0; 32];
    let length = password.len().min(32);
    key[..length].copy_from_slice(&password[..length]);
    Aes256::new(&GenericArray::from(key))
}

/// AES-256 in CBC, with PKCS #7 padding and the initial block in front, in base64.
fn encrypt<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (password, text) = (text_of(given[0]), text_of(given[1]));
    if text.is_empty() {
        return Ok(Value::Str(b""));
    }
    render.step(text.len() / 8 + 32)?;
    let cipher = cipher(password);
    let padding = 16 - text.len() % 16;
    let filler = u8::try_from(padding).unwrap_or(16);
    let padded = [text, &vec![filler; padding][..]].concat();
    let mut out = random(16)?;
    for chunk in padded.chunks(16) {
        let before = &out[out.len() - 16..];
        let mixed: [u8; 16] = std::array::from_fn(|at| chunk[at] ^ before[at]);
        let mut block = GenericArray::from(mixed);
        cipher.encrypt_block(&mut block);
        out.extend_from_slice(&block);
    }
    render.heap.str(STANDARD.encode(out))
}

fn decrypt<'r>(render: &mut Render<'r>, given: &[Value<'r>]) -> Answer<'r> {
    let (password, text) = (text_of(given[0]), text_of(given[1]));
    if text.is_empty() {
        return Ok(Value::Str(b""));
    }
    render.step(text.len() / 8 + 32)?;
    let bytes = from_base64(text).map_err(|_| Fault::new("illegal base64 data"))?;
    let broken = || Fault::new("the text was not encrypted so");
    if bytes.len() < 32 || bytes.len() % 16 != 0 {
        return Err(broken());
    }
    let cipher = cipher(password);
    let mut out = Vec::with_capacity(bytes.len());
    for (before, chunk) in bytes.chunks(16).zip(bytes.chunks(16).skip(1)) {
        let mut block = GenericArray::clone_from_slice(chunk);
        cipher.decrypt_block(&mut block);
        out.extend(block.iter().zip(before).map(|(byte, before)| byte ^ before));
    }
    let padding = out.last().copied().map_or(0, usize::from);
    let length = out.len().checked_sub(padding).ok_or_else(broken)?;
    render.heap.str(&out[..length])
}
