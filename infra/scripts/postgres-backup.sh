# Dumps the database into /backups, where what has its name is whole, with its checksum next to it; keeps the newest KEEP.
. ./connect.sh
umask 077
cd /backups
exec 9>.lock
flock 9

rm -f ./*.partial
name=$(date --utc +%Y%m%dT%H%M%SZ).dump
pg_dump --no-password --format=custom --file="$name.partial"
sync "$name.partial"
sum=$(sha256sum <"$name.partial")
echo "${sum%% *}  $name" >"$name.sha256"
sync "$name.sha256"
mv "$name.partial" "$name"
sync .

find . -name '*.dump' | sort --reverse | tail --lines="+$((KEEP + 1))" | while read -r old; do
  rm "$old" "$old.sha256"
done
echo "$name: $(stat --format=%s "$name") bytes in $SECONDS s; backups there are: $(find . -name '*.dump' | wc --lines)"
