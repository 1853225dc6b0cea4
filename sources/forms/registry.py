"""Every form that a raw folder is recognised by: the pattern of its caption file, and what reads it.

A new form is a line in FORMS and a file beside this one, whose function takes a RawCaptions that has only its `files`
and fills it by add() and assign(). What it raises on a malformed file (ValueError, KeyError, ...) becomes one line that
names the file and the form; a UserError of its own may say where in the file.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sources.forms.coco import read_coco
from sources.forms.flickr_tokens import read_flickr_tokens
from sources.forms.hub_flickr30k import read_hub_flickr30k
from sources.forms.json_lines import read_json_lines
from sources.forms.kaggle_pipes import read_kaggle_pipes
from sources.forms.karpathy import read_karpathy
from sources.forms.table import read_table
from sources.forms.text_a_picture import read_text_a_picture
from sources.raw_captions import RawCaptions


@dataclass(frozen=True)
class Form:
    name: str
    pattern: str
    read: Callable[[RawCaptions], None]


FORMS = (  # the first that matches; the most telling names first
    Form("Karpathy's JSON", "dataset_*.json", read_karpathy),
    Form("Flickr30k of the Hub", "flickr_annotations_30k.csv", read_hub_flickr30k),
    Form("COCO captions", "captions_*.json", read_coco),
    Form("Flickr8k as shipped", "Flickr8k.token.txt", read_flickr_tokens),
    Form("Flickr30k as shipped", "results*.token", read_flickr_tokens),
    Form("Kaggle's Flickr30k", "results.csv", read_kaggle_pipes),
    Form("Kaggle's Flickr8k", "captions.txt", read_table),
    Form("a table of captions", "captions.csv", read_table),
    Form("a table of captions", "captions.tsv", read_table),
    Form("JSON lines of captions", "captions.jsonl", read_json_lines),
    Form("a text file a picture", "*.txt", read_text_a_picture),
)
