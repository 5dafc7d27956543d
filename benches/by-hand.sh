#!/usr/bin/env bash
# What one would write by hand instead of certsyncd: asks CDS for each certificate, compares it with the one that is installed, writes the new
# one and reloads the server when something changed. `cargo bench` measures certsyncd against it.
#
#   ENDPOINT=https://… ACCESS_KEY=… SECRET_KEY=… FOLDER=/etc/nginx/certs RELOAD='systemctl reload nginx' benches/by-hand.sh < list
#
# The list has one `NAME ID` in a line. Needs curl, jq and openssl. It is as lean as such a script gets (no process where bash has a word for
# it), and it has the usual gaps: no rollback, no listing, no retry, a reader can meet a new certificate beside the old key.
set -euo pipefail
export TZ=UTC

# RFC 3986, for the few characters that occur here.
encode() {
    local text=${1//%/%25}
    text=${text//&/%26} text=${text//=/%3D} text=${text//:/%3A} text=${text//+/%2B}
    printf '%s' "${text//\//%2F}"
}

describe() {
    local now query signature
    printf -v now '%(%FT%TZ)T' -1
    query="AccessKeyId=$ACCESS_KEY&Action=DescribeCACertificate&CertificateId=$1&SignatureMethod=HMAC-SHA1"
    query+="&SignatureNonce=$EPOCHREALTIME-$RANDOM-$$&SignatureVersion=1.0&Timestamp=${now//:/%3A}&Version=2019-08-08"
    signature=$(printf 'GET&%%2F&%s' "$(encode "$query")" | openssl dgst -sha1 -hmac "$SECRET_KEY" -binary | base64)
    curl -fsS --max-time 30 "$ENDPOINT/lb/?$query&Signature=$(encode "$signature")"
}

umask 077
changed=
while read -r name id; do
    answer=$(describe "$id") || { echo "failed to fetch $name" >&2; continue; }
    new=$FOLDER/.$name.new
    mkdir -p "$new"
    jq -er .Data.Certificate <<< "$answer" > "$new/fullchain.pem"
    jq -er '.Data.PrivateKey // .Data.PirvateKey' <<< "$answer" > "$new/privkey.pem"
    theirs=$(openssl x509 -noout -fingerprint -sha256 < "$new/fullchain.pem")
    ours=$(openssl x509 -noout -fingerprint -sha256 < "$FOLDER/$name/fullchain.pem" 2> /dev/null || true)
    [ "$theirs" = "$ours" ] && continue
    if [ "$(openssl x509 -noout -pubkey < "$new/fullchain.pem")" != "$(openssl pkey -pubout < "$new/privkey.pem")" ]; then
        echo "the key of $name does not fit" >&2
        continue
    fi
    cat "$new/fullchain.pem" "$new/privkey.pem" > "$new/combined.pem"
    mkdir -p "$FOLDER/$name"
    mv "$new"/*.pem "$FOLDER/$name/"
    changed=1
done
[ -z "$changed" ] || $RELOAD
