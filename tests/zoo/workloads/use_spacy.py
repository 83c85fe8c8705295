"""Parse text with a blank pipeline and keep the documents."""

import time

import spacy

nlp = spacy.blank("en")
nlp.add_pipe("sentencizer")


def parse(count):
    """Return documents of different words."""
    texts = (f"Number {i} is followed by word{i}. It ends here." * 3 for i in range(count))
    return list(nlp.pipe(texts))


kept = parse(8000)
time.sleep(1.5)
print(len(kept), sum(len(document) for document in kept))
