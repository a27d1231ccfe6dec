#!/bin/sh
# Makes the spoken prompts in music/prompts with espeak-ng and sox (Debian packages of those names).
#
# Run from anywhere: music/make-prompts.sh [voice]. Sound made by espeak-ng is not covered by its licence (GPLv3);
# the files belong to the project.
set -eu

voice="${1:-en-us}"
prompts="$(dirname "$0")/prompts"
mkdir -p "$prompts/digits"

# say FILE TEXT LEAD: 16 kHz mono, one level for all, silence cut from both ends, LEAD seconds before
# and a short pause after.
say() {
    espeak-ng -v "$voice" -s 150 -p 45 -g 2 --stdout "$2" |
        sox -q -t wav - -b 16 -r 16000 -c 1 -D "$prompts/$1.wav" \
            silence 1 0.01 0.3% reverse silence 1 0.01 0.3% reverse \
            norm -6 pad "$3" 0.12
}

# A phone needs a moment after answering before it plays what arrives.
say parked-on "Parked on" 0.3
say digits/0 zero 0
say digits/1 one 0
say digits/2 two 0
say digits/3 three 0
say digits/4 four 0
say digits/5 five 0
say digits/6 six 0
say digits/7 seven 0
say digits/8 eight 0
say digits/9 nine 0
say digits/star star 0
say digits/pound pound 0
say digits/hash hash 0
