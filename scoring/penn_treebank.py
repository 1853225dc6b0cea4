"""Penn Treebank words of a caption, cut as the COCO caption evaluation cuts them.

    words("A man can't swim.")      # "a man ca n't swim"

Gives what pycocoevalcap's PTBTokenizer gives (Stanford CoreNLP 3.4.1 with -lowerCase, then punctuation dropped), with
no Java; tests/scoring/test_penn_treebank.py compares them. Like that lexer it tries every rule at each place and takes
the one that reaches furthest, the first of equals. Not covered: letters that Unicode knows and Java's tables of 2014
did not.
"""

import re
from collections.abc import Callable

# dropped; brackets stay, since pycocoevalcap looks for "-LRB-" where its lexer writes "-lrb-"
PUNCTUATION = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}

# --- parts of patterns; A stands for ASCII ---
NUMERALS = r"²³¹⁰-⁹₀-₉¼-¾⅐-ↂↅ-↉①-⓿〇㆒-㊿"  # numbers to Python's \w, but neither letters nor digits
LETTER = rf"(?:[^\W\d_{NUMERALS}]|[\u02c2-\u036f\u0384\u0385\u0483-\u0487]|&[aeiouAEIOU](?:acute|grave|uml);)"
WORD = rf"{LETTER}(?:{LETTER}|[\d\xad])*(?:[.!?][A-Za-z](?:{LETTER}|[\d\xad])*)*"
APOSTROPHE = r"(?:['\x92\u2019]|&apos;)"
ANY_APOSTROPHE = rf"(?:{APOSTROPHE}|[`\x91\u2018\u201b])"
CLITIC = r"(?i:[msd]|re|ve|ll)"
NUM = r"(?:\d*(?:[.:,\xad\u066b\u066c]\d+)+|\d+)"
ACRONYM = r"(?i:[a-z](?:\.[a-z])+|(?:canada|sino|korean|eu|japan|non)-u\.s|u\.s\.-(?:u\.k|u\.s\.s\.r))"
THING = rf"(?:[dDoOlL]{ANY_APOSTROPHE}[A-Za-z0-9])?(?:[A-Za-z0-9]+|{NUM})"
ABBREVIATION = (
    r"(?i:alex|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|ala|ariz|calif|colo|conn|ct|"
    r"dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo|inc|cos?|corp|pp?t[ye]s?|ltd|"
    r"plc|bancorp|bhd|assn|univ|intl|sys|tel|est|ext|sq|jr|sr|bros|(?:ed|ph)\.d|blvd|rd|esq|mr|mrs|ms|drs?|profs?|"
    r"sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|rt|hon|brig|co?mdr|"
    r"pfc|spc|supts?|det|mt|ft|adj|adv|asst|assoc|ens|insp|mlle|mme|msgr|sfc|invt|elec|natl|m[ft]g|dept|wm|jos|cie|cf|"
    r"treas|ph|bldg|al|seq|etc|a\.k\.a|vs)\.|(?:Az|Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash)\."
)
BEFORE_NUMBERS = r"(?i:ca|figs?|prop|nos?|art|bldg|pp|op|p)\."
STARTERS = (  # words that begin a sentence, so that the single letter before them was no initial
    r"(?:A|About|According|Additionally|After|An|As|At|But|Earlier|He|Her|Here|However|If|In|It|Last|Many|More|Mr\.|Ms\.|"
    r"Now|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|Then|There|These|They|This|We|When|While|What|Yet|You)"
)
APOSTROPHE_WORD = (
    rf"[A-HJ-XZn]{ANY_APOSTROPHE}{LETTER}{{2}}{LETTER}*|{APOSTROPHE}[nN]{APOSTROPHE}?|[lLdDjJ]{APOSTROPHE}|"
    rf"(?i:dunkin|somethin|ol){APOSTROPHE}|{APOSTROPHE}(?i:em|till?|cause|[2-9]0s)|"
    rf"[A-Za-z]+[aeiouyAEIOUY]{ANY_APOSTROPHE}[aeiouAEIOU][A-Za-z]*|"
    rf"(?i:nor{APOSTROPHE}easter|c{APOSTROPHE}mon|e{APOSTROPHE}er|s{APOSTROPHE}mores|ev{APOSTROPHE}ry|li{APOSTROPHE}l|"
    rf"nat{APOSTROPHE}l|cap{APOSTROPHE}n)"
)
ATTRIBUTE = r"[A-Za-z][A-Za-z0-9:._-]*(?:[ ]*=[ ]*(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[A-Za-z][A-Za-z0-9:._-]*))?"  # of a tag
TAG = rf"<(?:[!?][A-Za-z-][^>\r\n]*|/?[A-Za-z][A-Za-z0-9:._-]*(?:[ ]+{ATTRIBUTE})*[ ]*/?)>"
URL = r"https?://[^\s<>|(){}\"]+[^\s\"<>|.!?(){},-]"
LIKELY_URL = (
    r"(?:(?:www\.(?:[^\s\"`'<>|.!?(){},]+\.)+[a-zA-Z]{2,4})|(?:(?:[^\s\"`'<>|.!?(){},$-]+\.)+(?:com|net|org|edu)))"
    r"(?:/[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-])?"
)
MAIL = r"(?:<|&lt;)?[a-zA-Z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}.,;:]+(?:>|&gt;)?"
PHONE = (
    r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])[0-9]{3,4}[- \xa0]?[0-9]{3,5}"
    r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
SMILEY = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"
ASIAN_SMILEY = r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"
QUOTE = r"\"|&quot;|[`'\x91\x92\u2018\u2019]'|[`\u2018\u2019\x91\x92]{2}|[\x82\x84\x91-\x94`‘’‛“”‟‹›«»]"
SYMBOL = (
    r"[+%&~^|\\¦§¨©¬®¯°-³´-º¡¿×÷·,;:=‚„$¥¤\u0387\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u0614"
    r"\u061b\u061e\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f6-\u07f8\u0964\u0965\u0e3f\u0e4f\u1fbd\u2016\u2017\u2020-\u2023"
    r"\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001"
    r"\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6]"
)

WRITTEN_AS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "£": "#", "¢": "cents", "&nbsp;": ""}
WRITTEN_AS |= dict.fromkeys("€¤\x80\u20a0", "$")
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def itself(token: str) -> str:
    return token


def dropped(token: str) -> str:
    return ""


def written(token: str) -> str:
    return WRITTEN_AS.get(token, token)


def unescaped(token: str) -> str:
    return token.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")


def one_word(token: str) -> str:
    return token.replace(" ", "\xa0")


def with_brackets(token: str) -> str:
    return "".join(BRACKETS.get(c, c) if c in "()" else c for c in one_word(token))


def with_straight_quote(token: str) -> str:
    return re.sub("[\x92\u2019]", "'", re.sub("[\x91\u2018\u201b]", "`", token))


def without_period(token: str) -> str:
    return token[:-1]


# (pattern, how the token is written). Group 1, where there is one, is the token and the rest what must follow it.
RULES: list[tuple[str, Callable[[str], str]]] = [
    (r"((?i:can))(?i:not)", itself),
    (r"((?i:gon|got|lem|gim|wan))(?:(?<=[nN])(?i:na)|(?<=[tT])(?i:ta)|(?<=[mM])(?i:me))", itself),
    (r"('[tT])(?i:is|was)", itself),
    (r"[cC]\+\+|[cCfF]#", itself),
    (TAG, one_word),
    (r"&(?:MD|mdash|ndash);|[\x96\x97\u2013-\u2015]", dropped),
    (r"&amp;|&lt;|&gt;|<<|>>|<|>", unescaped),
    (r"&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);", itself),
    (rf"({WORD}){APOSTROPHE}{CLITIC}", itself),
    (rf"([A-Za-z\xad]*[A-MO-Za-mo-z]\xad*)[nN]{ANY_APOSTROPHE}[tT]", itself),
    (WORD, itself),
    (APOSTROPHE_WORD, itself),
    (rf"([yY]{APOSTROPHE}){LETTER}", itself),
    (URL, itself),
    (rf"{LIKELY_URL}(?![A-Za-z])", itself),
    (MAIL, itself),
    (r"@[a-zA-Z_][a-zA-Z_0-9]*|#[A-Za-z]+", itself),
    (rf"('{CLITIC})(?:[^A-Za-z]|$)", itself),
    (rf"[\x92\u2019]{CLITIC}", with_straight_quote),
    (rf"([nN]{ANY_APOSTROPHE}[tT])(?:[^A-Za-z]|$)", with_straight_quote),
    (r"(')[A-Za-z]\S", dropped),
    (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", itself),
    (rf"[-+]?{NUM}", itself),
    (r"(?:\d{1,4}[- \xa0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}", one_word),
    (r"-(?i:RRB|LRB|RCB|LCB|RSB|LSB)-|(?i:C\.D\.s|pro-|anti-|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls)", unescaped),
    (r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}", itself),
    (r"[A-Z]*\$|[½¼¾⅓⅔¢£¤€\x80\u20a0\u20a4]|&nbsp;", written),
    (rf"([A-Za-z]\.)[ \xa0]+{STARTERS}[ \xa0?!]", without_period),
    (rf"({BEFORE_NUMBERS})[ \xa0]?\d", itself),
    (ABBREVIATION, itself),
    (rf"(?:{ACRONYM}|[A-Za-z])\.", itself),
    (rf"({ACRONYM})(?:[^A-Za-z]|$)", itself),
    (rf"({APOSTROPHE}\d\d)(?:\s|$)", itself),
    (PHONE, with_brackets),
    (QUOTE, dropped),
    (rf"({SMILEY})(?:[^A-Za-z0-9]|$)", with_brackets),
    (ASIAN_SMILEY, with_brackets),
    (r"[\[\](){}]", BRACKETS.__getitem__),
    (r"-{2,4}|[\u058a\u2010\u2011]", dropped),
    (r"-+", itself),
    (r"\.{3,}|\.(?:[ \xa0]\.){2,}|[\x85\u2026]", dropped),
    (r"@+|#+|_+|\*+|(?:\\\*){1,3}|[?!]+|[.¡¿=/]", itself),
    (rf"(?:{LETTER}|\d)(?:{LETTER}|[\d.,\xad])*(?:[-_](?:{ACRONYM}\.|(?:{LETTER}|[\d\xad])+))+", itself),
    (rf"({WORD}\.)[,;:]", itself),
    (rf"{THING}(?:[-\u058a\u2010\u2011]{THING})*", itself),
    (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", unescaped),
    (APOSTROPHE, dropped),
    (SYMBOL, itself),
]
COMPILED = [(re.compile(pattern), write) for pattern, write in RULES]
PLAIN = re.compile(r"(?!(?:cannot|gonna|gotta|lemme|gimme|wanna) )[a-z]+(?= )")  # most words need no rule


def words(caption: str) -> str:
    """Lower-case words separated by one space; "" when there are none."""
    text = " ".join(caption.split()) + " "
    found, i = [], 0
    while i < len(text):
        if plain := PLAIN.match(text, i):
            token, i = plain[0], plain.end()
        elif text[i].isspace():
            token, i = "", i + 1
        else:
            token, i = longest(text, i)
        if token and token not in PUNCTUATION:
            found.append(token)
    return " ".join(found)


def longest(text: str, i: int) -> tuple[str, int]:
    """The token that begins at text[i] and where it ends; what no rule knows (an emoji, say) is skipped."""
    matches = [(match, write) for pattern, write in COMPILED if (match := pattern.match(text, i))]
    if not matches:
        return "", i + 1
    match, write = max(matches, key=lambda found: found[0].end())  # of equals max() keeps the first
    group = match.re.groups
    return write(match[group]).replace("\xad", "").lower(), match.end(group)
