%%% @doc A strict JSON reader for tests: OTP has one only from release 27 on.
%%% Objects become maps with binary keys, and a key that stands twice is an error.
-module(json_reader).
-export([decode/1]).

-type json() :: null | boolean() | number() | binary() | [json()] | #{binary() => json()}.

%% @doc Read one value; anything after it is an error.
-spec decode(binary()) -> json().
decode(Text) ->
    {Value, Rest} = value(space(Text)),
    <<>> = space(Rest),
    Value.

%%% Private functions.

value(<<"null", Rest/binary>>) -> {null, Rest};
value(<<"true", Rest/binary>>) -> {true, Rest};
value(<<"false", Rest/binary>>) -> {false, Rest};
value(<<$", Rest/binary>>) -> string(Rest, []);
value(<<"[", Rest/binary>>) -> array(space(Rest));
value(<<"{", Rest/binary>>) -> object(space(Rest));
value(Text) -> number(Text).

array(<<"]", Rest/binary>>) -> {[], Rest};
array(Text) -> items(Text, []).

items(Text, Items) ->
    {Item, Rest} = value(Text),
    case space(Rest) of
        <<",", More/binary>> -> items(space(More), [Item | Items]);
        <<"]", More/binary>> -> {lists:reverse([Item | Items]), More}
    end.

object(<<"}", Rest/binary>>) -> {#{}, Rest};
object(Text) -> entries(Text, #{}).

entries(<<$", Text/binary>>, Entries) ->
    {Key, AfterKey} = string(Text, []),
    false = maps:is_key(Key, Entries),
    <<":", AfterColon/binary>> = space(AfterKey),
    {Value, Rest} = value(space(AfterColon)),
    case space(Rest) of
        <<",", More/binary>> -> entries(space(More), Entries#{Key => Value});
        <<"}", More/binary>> -> {Entries#{Key => Value}, More}
    end.

string(<<$", Rest/binary>>, Parts) ->
    Text = iolist_to_binary(lists:reverse(Parts)),
    true = is_list(unicode:characters_to_list(Text)),
    {Text, Rest};
string(<<"\\u", High:4/binary, "\\u", Low:4/binary, Rest/binary>>, Parts) when
    High >= <<"d800">>, High < <<"dc00">>; High >= <<"D800">>, High < <<"DC00">>
->
    Code = 16#10000 + ((binary_to_integer(High, 16) - 16#d800) bsl 10) + binary_to_integer(Low, 16) - 16#dc00,
    string(Rest, [<<Code/utf8>> | Parts]);
string(<<"\\u", Hex:4/binary, Rest/binary>>, Parts) ->
    string(Rest, [<<(binary_to_integer(Hex, 16))/utf8>> | Parts]);
string(<<"\\", Escaped, Rest/binary>>, Parts) ->
    Character =
        case Escaped of
            $b -> $\b;
            $f -> $\f;
            $n -> $\n;
            $r -> $\r;
            $t -> $\t;
            Same when Same =:= $"; Same =:= $\\; Same =:= $/ -> Same
        end,
    string(Rest, [Character | Parts]);
string(Text, Parts) ->
    {Plain, Rest} = plain(Text, 0),
    string(Rest, [Plain | Parts]).

%% @doc The longest run of characters that stand for themselves; control
%% characters must be escaped.
plain(Text, Length) ->
    case Text of
        <<_:Length/binary, Byte, _/binary>> when Byte >= 32, Byte =/= $", Byte =/= $\\ ->
            plain(Text, Length + 1);
        <<Plain:Length/binary, Rest/binary>> when Length > 0 ->
            {Plain, Rest}
    end.

number(Text) ->
    {match, [{0, Length} | Parts]} =
        re:run(Text, "^-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?", [{capture, all, index}]),
    <<Digits:Length/binary, Rest/binary>> = Text,
    case Parts of
        [_] -> {binary_to_integer(Digits), Rest};
        [_, {_, Fraction}] when Fraction > 0 -> {binary_to_float(Digits), Rest};
        [_, {_, 0} | _] -> {binary_to_float(binary:replace(Digits, [<<"e">>, <<"E">>], <<".0e">>)), Rest};
        _ -> {binary_to_float(Digits), Rest}
    end.

space(<<Character, Rest/binary>>) when
    Character =:= $\s; Character =:= $\t; Character =:= $\n; Character =:= $\r
->
    space(Rest);
space(Text) ->
    Text.
