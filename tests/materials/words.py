"""What the packages' texts have wrong, and which recordings Whisper's smallest models hear without a mistake."""

from __future__ import annotations

_READER = "librivox/sense_and_sensibility_01_austen_64kb-"

#: What is said, where the package's text has it differently (or, for LibriVox, without the book's punctuation).
CORRECTED = {
    f"{_READER}0870": "And Mr. John Dashwood had then leisure to consider how much there might be prudently in his "
    "power to do for them.",
    f"{_READER}0880": "He was not an ill-disposed young man,",
    f"{_READER}0890": "unless to be rather cold hearted and rather selfish is to be ill-disposed.",
    f"{_READER}0920": "Had he married a more amiable woman, he might have been made still more respectable than he "
    "was:",
    f"{_READER}0930": "he might even have been made amiable himself;",
    "en/conf-adminmenu-menu8": "Press 1 to list users currently in the conference, 2 to kick all non-administrator "
    "users, 3 to mute or unmute all non-administrator users, 4 to record this conference, or 8 to exit this menu and "
    "return to the conference.",
    "en/demo-enterkeywords": "Please enter one or more keywords separated by star and then press the pound key.",
    "en/queue-periodic-announce": "All of our representatives are currently busy. Please stay on the line and your "
    "call will be answered by the next available representative.",
    "en/unidentified-no-callback": "Unidentified or withheld and therefore cannot be called back.",
    "en/vm-review": "Press 1 to accept this recording. Press 2 to listen to it. Press 3 to re-record your message.",
    "en/vm-torerecord": "Press 3 to re-record your message.",
}

#: Whole sentences that `base` writes word for word (greedy, in transformers). Good where the words must be right
#: and no more is asked; a rate of errors is to be measured on all sentences (`recordings.sentences`).
CLEAR = {
    "en": (
        "en/tt-allbusy",
        "en/vm-newuser",
        "en/vm-invalid-password",
        "en/queue-youarenext",
        "en/ss-noservice",
        "en/vm-tmpexists",
        "en/vm-nobox",
        "en/priv-introsaved",
        "en/conf-invalid",
        "en/demo-thanks",
    ),
    "es": (
        "es/queue-periodic-announce",
        "es/queue-youarenext",
        "es/confbridge-dec-talk-vol-out",
        "es/confbridge-lock-no-join",
        "es/vm-nobodyavail",
        "es/vm-starmain",
        "es/confbridge-begin-glorious-c",
        "es/agent-newlocation",
        "es/conf-onlyone",
        "es/vm-marked-urgent",
    ),
    "fr": (
        "fr/vm-tempgreeting2",
        "fr/priv-introsaved",
        "fr/pbx-invalid",
        "fr/vm-toforward",
        "fr/confbridge-only-participant",
        "fr/transfer",
        "fr/pls-hold-while-try",
        "fr/vm-sorry",
        "fr/confbridge-only-one",
        "fr/vm-savefolder",
    ),
}
