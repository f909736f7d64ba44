//! A mail as it goes over the wire (RFC 5322, 2045, 2047). Whatever an event says, it makes no header, ends no mail and is no
//! line longer than mail servers take: text is carried as base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sheaf_model::{Mail, Timestamp};

use super::digest::Letter;

/// Characters of a line of base64.
const LINE: usize = 76;
/// Bytes of text in one encoded word, which may have 75 characters.
const WORD: usize = 45;
/// Characters of a subject.
const SUBJECT: usize = 200;

/// Headers and body, each line ended by CR LF.
pub(super) fn text(mail: &Mail, letter: &Letter, now: Timestamp) -> String {
    let domain = mail.from.rsplit_once('@').map_or("sheaf", |(_, domain)| domain);
    let id = format!("{}.{}", letter.id, letter.cluster);
    let headers = [
        ("Date", date(now)),
        ("From", mail.from.clone()),
        ("To", mail.to.join(",\r\n ")),
        ("Subject", words(&letter.subject)),
        ("Message-ID", format!("<{}@{domain}>", plain(&id))),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Transfer-Encoding", "base64".to_owned()),
        ("Auto-Submitted", "auto-generated".to_owned()),
        ("X-Sheaf-Sink", plain(&letter.sink)),
    ];
    let mut text: String = headers.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    text.push_str("\r\n");
    let body = STANDARD.encode(letter.text.replace('\n', "\r\n"));
    for line in body.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push_str("\r\n");
    }
    text
}

/// Only what stands in names; all else is a dash.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect()
}

/// A text as the value of a header: as it is if that is short and plain, else as encoded words.
fn words(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT).collect();
    if clean.len() <= LINE && clean.chars().all(|c| c == ' ' || c.is_ascii_graphic()) && !clean.contains("=?")
    {
        return clean;
    }
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    for c in clean.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded: Vec<String> =
        words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    encoded.join("\r\n ")
}

/// `Tue, 14 Nov 2023 22:13:20 +0000`
fn date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // 1970-01-01, a Thursday.
    let day = usize::try_from(at.0 / 86_400_000 % 7).unwrap_or(0);
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or(("", ""));
    let mut parts = date.split('-');
    let year = parts.next().unwrap_or_default();
    let month = parts.next().and_then(|month| month.parse::<usize>().ok()).unwrap_or(1);
    let month = MONTHS.get(month.wrapping_sub(1)).copied().unwrap_or("Jan");
    let of_month = parts.next().unwrap_or_default();
    let time = time.split('.').next().unwrap_or_default();
    format!("{}, {of_month} {month} {year} {time} +0000", DAYS[day])
}

#[cfg(test)]
mod tests {
    use sheaf_model::{MailSecurity, Span};

    use super::*;

    pub(super) fn mail() -> Mail {
        Mail {
            server: "mail:25".to_owned(),
            security: MailSecurity::None,
            user: None,
            password: None,
            from: "sheaf@example.org".to_owned(),
            to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
            digest: Span::seconds(60),
            timeout: Span::seconds(5),
            ca: None,
        }
    }

    fn letter(subject: &str, text: &str) -> Letter {
        Letter {
            sink: "ops".to_owned(),
            cluster: "c".to_owned(),
            subject: subject.to_owned(),
            text: text.to_owned(),
            id: "ops.1.2.job\r\n0".to_owned(),
        }
    }

    #[test]
    fn a_mail_has_the_headers_it_should_and_its_text_comes_back() {
        let text = text(
            &mail(),
            &letter("[sheaf] job a: 1 subtask failed", "größer\nthan\n"),
            Timestamp(1_700_000_000_000),
        );
        let (headers, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(headers.starts_with("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"), "{headers}");
        for header in [
            "To: a@example.org,\r\n b@example.org\r\n",
            "Subject: [sheaf] job a: 1 subtask failed\r\n",
            "Message-ID: <ops.1.2.job--0.c@example.org>\r\n",
        ] {
            assert!(headers.contains(header), "{header} in {headers}");
        }
        let decoded = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "größer\r\nthan\r\n");
        let long = super::text(&mail(), &letter("x", &"y".repeat(100_000)), Timestamp(0));
        assert!(long.lines().all(|line| line.len() <= 76), "no line is long");
        assert!(long.starts_with("Date: Thu, 01 Jan 1970 00:00:00 +0000"));
    }

    #[test]
    fn no_subject_makes_a_header() {
        for subject in [
            "a\r\nBcc: x@y",
            "a\nBcc: x@y",
            "ä\r\nBcc: x@y",
            "=?utf-8?Q?a=0D=0ABcc:_x?=",
            "ö".repeat(500).as_str(),
        ] {
            let text = text(&mail(), &letter(subject, ""), Timestamp(0));
            let (headers, _) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                headers.split("\r\n").all(|line| !line.starts_with("Bcc") && line.len() < 998),
                "{headers}"
            );
            let names: Vec<&str> = headers
                .split("\r\n")
                .filter(|line| !line.starts_with(' '))
                .filter_map(|line| line.split(':').next())
                .collect();
            assert_eq!(names.len(), 10, "{names:?}");
            assert!(
                !headers.contains('\n') || headers.matches('\n').count() == headers.matches("\r\n").count()
            );
        }
        assert_eq!(words("größer"), "=?utf-8?B?Z3LDtsOfZXI=?=");
    }
}
