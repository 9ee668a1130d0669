%%% @doc What a person sees who starts the feed: where it is, and how to listen.
-module(feed_banner).
-export([show/2]).

%% @doc Print the address, the topics, and lines to paste that subscribe.
show(Uri, Topics) ->
    io:format(
        "~n"
        "  ~ts~n"
        "~n"
        "Open ~ts~n"
        "~n"
        "Topics:~n"
        "~ts"
        "~n"
        "Or subscribe from another terminal:~n"
        "  make watch TOPIC=prices~n"
        "  python3 -m websockets '~ts?topic=prices'          (pip install websockets)~n"
        "  npx wscat -c '~ts?topic=prices,action:Notify'~n"
        "  websocat '~ts?topic=*'~n"
        "~n"
        "Ctrl-C ends the feed.~n",
        [Uri, page(Uri), [["  ", Topic, $\n] || Topic <- Topics], Uri, Uri, Uri]
    ).

%%% Private functions.

%% @doc The live page is beside the WebSocket endpoint.
page(<<"ws", Rest/binary>>) ->
    ["http", binary:part(Rest, 0, byte_size(Rest) - length("ws"))].
