#!/bin/sh
# Starts baresip as one of the sample office's phones:   docs/phone.sh alice
# The same in another domain, through a host of it:        docs/phone.sh alice example.test 127.0.1.1
#
# Needs `apt-get install baresip-core`. Uses the sound card if there is one; without one the phone sends a tone, each user
# another, and what it hears lands in var/phones/NAME/*-dec.wav.
#
# Keys: d, a number and Enter: dial; a: answer; b: hang up; x and X: hold and resume; t, a number and Enter: transfer;
# l: list calls; q: quit.
set -eu
name=${1:?usage: docs/phone.sh alice|bob|carol|dave [DOMAIN [HOST]]}
domain=${2:-127.0.0.1}
host=${3:-$domain}
folder=$(cd "$(dirname "$0")/.." && pwd)/var/phones/$name
modules=$(dirname "$(find /usr/lib /usr/local/lib -path '*baresip/modules/g711.so' 2>/dev/null | head -n 1)")
mkdir -p "$folder"

if [ -e /dev/snd/controlC0 ]; then
    sound='module alsa.so
audio_source alsa,default
audio_player alsa,default
audio_alert alsa,default'
else
    case $name in alice) hertz=440 ;; bob) hertz=1000 ;; carol) hertz=1700 ;; *) hertz=700 ;; esac
    # ausine makes 48 kHz stereo and nothing else.
    sound="module ausine.so
module aubridge.so
module sndfile.so
audio_source ausine,$hertz
audio_player aubridge,nil
ausrc_srate 48000
ausrc_channels 2
snd_path $folder"
fi

# On the machine's own address a phone must be told to use it; towards another host the default is right.
case $host in 127.*) local="sip_listen 127.0.0.1:0
net_interface 127.0.0.1" ;; *) local="" ;; esac

cat > "$folder/config" <<CONFIG
$local
module_path $modules
module stdio.so
module g722.so
module g711.so
$sound
module_app account.so
module_app contact.so
module_app menu.so
CONFIG
echo "<sip:$name@$domain>;auth_pass=$name;regint=300${3:+;outbound=\"sip:$3\"}" > "$folder/accounts"
exec baresip -f "$folder"
